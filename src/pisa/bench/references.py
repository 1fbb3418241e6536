"""Where scored videos come from: a model, and the pseudo models truth, frozen and codec."""

from __future__ import annotations

from typing import Protocol

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.samplers import Ancestral, Euler
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise
from pisa.types import Batch


class VideoSource(Protocol):
    """Makes videos that continue the first frames of a batch."""

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        """Videos in [-1, 1] of the batch's length; equal for equal clips and seeds."""
        ...


def frozen_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``frozen``: the first frame held."""
    return repeat(batch.first_frame, "b c h w -> b c t h w", t=batch.video.shape[2])


def true_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``truth``: the clip itself, so that what is left is the tracker's error."""
    return batch.video


REFERENCES: dict[str, VideoSource] = {"truth": true_video, "frozen": frozen_video}


class CodecVideos:
    """Pseudo model ``codec``: the clip encoded and decoded, as a perfect denoiser would make it."""

    def __init__(self, model: VideoModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        length = batch.video.shape[2]
        return self.model.decode(self.model.encode(batch.video), length).clamp(-1.0, 1.0)


class ModelSource:
    """Videos of a model; the noise belongs to (seed, clip name), not to the batch.

    Args:
        num_steps: of the sampler (release: 30 for its tables, 10 in validation).
        guidance: classifier-free guidance scale (release: 7.0, and 4.0 in validation).
        caption: replaces the clips' own captions; None keeps them.
        caption_suffix: appended to every caption (release: " aesthetic score: 6.5.").
        num_frames: generated where a clip has fewer, as real ones may, and cut to the clip's
            length; None generates as many as the clip has.
        eta: above 0 adds fresh noise in each step (``Ancestral``), which also belongs to
            the clip.
    """

    def __init__(
        self,
        model: VideoModel,
        num_steps: int = 30,
        guidance: float = 7.0,
        caption: str | None = None,
        caption_suffix: str = "",
        decode_chunk: int | None = None,
        num_frames: int | None = None,
        eta: float = 0.0,
    ) -> None:
        if not 0 <= eta <= 1:
            raise PisaError(f"evaluation.eta must lie in 0..1, not {eta:g}")
        self.model = model
        self.num_steps = num_steps
        self.guidance = guidance
        self.caption = caption
        self.caption_suffix = caption_suffix
        self.decode_chunk = decode_chunk
        self.num_frames = num_frames
        self.eta = eta

    @torch.no_grad()
    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        length, height, width = batch.video.shape[2:]
        frames = max(length, self.num_frames or 0)
        shape = self.model.latent_shape(frames, height, width)
        captions = batch.captions if self.caption is None else [self.caption] * len(batch)

        def fresh(step: int) -> Tensor:
            names = [f"{name}.step{step}" for name in batch.names]
            return clip_noise(names, seed, shape).to(batch.video)

        video = generate(
            self.model,
            batch.first_frame,
            [caption + self.caption_suffix for caption in captions],
            num_frames=frames,
            fps_hz=batch.fps_hz,
            num_steps=self.num_steps,
            guidance=self.guidance,
            noise=clip_noise(batch.names, seed, shape).to(batch.video),
            decode_chunk=self.decode_chunk,
            sampler=Ancestral(self.eta, fresh) if self.eta else Euler(),
        )[:, :, :length]
        # NaN and infinity are kept, so that the scorer reports the clip as a failure
        return torch.where(video.isfinite(), video.clamp(-1.0, 1.0), video)


class Autocast:
    """A source in bfloat16 arithmetic, its weights as they are (the release casts these too)."""

    def __init__(self, source: VideoSource, device: torch.device) -> None:
        self.source, self.device = source, device

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.source(batch, seed).float()
