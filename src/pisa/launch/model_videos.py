"""What every evaluation samples from and tracks with, as the configuration says."""

from __future__ import annotations

import torch
from einops import reduce
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn

from pisa.bench.score import ModelSource, VideoSource
from pisa.launch.targets import instantiate
from pisa.models.base import VideoModel
from pisa.perception.base import Tracker
from pisa.types import Batch


def model_videos(
    settings: DictConfig, model: VideoModel, device: torch.device, num_frames: int | None = None
) -> VideoSource:
    """Samples of a model that is on ``device``, by the settings of ``configs/evaluation``."""
    source = ModelSource(
        model,
        num_steps=settings.num_steps,
        guidance=settings.guidance,
        caption=settings.caption,
        caption_suffix=settings.caption_suffix,
        decode_chunk=settings.decode_chunk,
        num_frames=num_frames,
        eta=settings.eta,
    )
    return Autocast(source, device) if settings.bfloat16 else source


def make_tracker(cfg: DictConfig, device: torch.device) -> Tracker:
    """The tracker of ``perception=``, on the device."""
    tracker: Tracker = instantiate(cfg.perception.tracker)
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    return tracker


def codec_videos(settings: DictConfig, model: VideoModel, device: torch.device) -> VideoSource:
    """Pseudo model ``codec``: the clip encoded and decoded, as a perfect denoiser would make it.

    Clips are [B, 3, T, H, W] in [-1, 1], as all of a ``VideoSource``.
    """

    @torch.no_grad()
    def decoded(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        length = batch.video.shape[2]
        return model.decode(model.encode(batch.video), length).clamp(-1.0, 1.0)

    return Autocast(decoded, device) if settings.bfloat16 else decoded


class FiniteVideos:
    """A source whose clips that hold NaN or infinity are noted by name, and come back grey.

    A tracker finds no object in such a clip, which would pass for a score.
    """

    def __init__(self, source: VideoSource) -> None:
        self.source = source
        self.broken: set[str] = set()

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        video = self.source(batch, seed)
        finite = reduce(video.isfinite(), "b c t h w -> b 1 1 1 1", "all")
        marked = zip(batch.names, finite.flatten().tolist(), strict=True)
        self.broken.update(name for name, whole in marked if not whole)
        return video.where(finite, 0.0)


class Autocast:
    """A source in bfloat16 arithmetic, its weights as they are (the release casts these too)."""

    def __init__(self, source: VideoSource, device: torch.device) -> None:
        self.source, self.device = source, device

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.source(batch, seed).float()
