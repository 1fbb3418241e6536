"""PisaBench scores of generated clips: pure functions, used by the callback and by eval.py.

A clip is scored on the mask of its dropping object: the tracker follows the object from its
true first-frame mask through the generated clip, and the metrics compare with the true masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from einops import repeat
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pisa.metrics import evaluate_pair, time_error
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise
from pisa.ops.video import to_uint8
from pisa.perception.base import Tracker
from pisa.types import Batch, PisaError

METRICS = ("l2", "chamfer", "iou", "time_error")


@dataclass(frozen=True)
class ClipResult:
    """One scored clip. ``row`` holds model, split, clip, seed and the metrics (NaN: undefined)."""

    row: dict[str, Any]
    video: UInt8[Tensor, "3 t h w"]
    mask: Bool[Tensor, "t h w"]  # of the dropping object, as tracked


class VideoSource(Protocol):
    """Makes clips that continue the first frames of a batch."""

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        """Clips in [-1, 1] of the batch's length; equal for equal clips and seeds."""
        ...


class ModelSource:
    """Clips of a video model; the noise belongs to (seed, clip name), not to the batch.

    ``caption`` replaces the clips' own where it isn't None; ``caption_suffix`` is appended
    (release: per-video caption plus " aesthetic score: 6.5."). The release's final inference takes
    30 steps with guidance 7.0, its validation 10 with 4.0. ``num_frames`` are generated where a
    clip has fewer (as real ones have), and cut to it; None makes as many as the clip has. ``eta``
    above 0 samples with fresh noise in each step (``sample_ancestral``), which also belongs to the
    clip.
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
            eta=self.eta,
            step_noise=lambda k: clip_noise(
                [f"{name}.step{k}" for name in batch.names], seed, shape
            ).to(batch.video),
        )[:, :, :length]
        # NaN and infinity stay what they are: whoever scores the clip must see them
        return torch.where(video.isfinite(), video.clamp(-1.0, 1.0), video)


def frozen_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``frozen``: the first frame held."""
    return repeat(batch.first_frame, "b c h w -> b c t h w", t=batch.video.shape[2])


def true_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``truth``: the clip itself, so that what is left is the tracker's error."""
    return batch.video


@torch.no_grad()
def track_dropping(
    generated: Float[Tensor, "b 3 t h w"], batch: Batch, tracker: Tracker
) -> Bool[Tensor, "b t h w"]:
    """Masks of the dropping (last) object, tracked from the true first-frame masks."""
    return tracker.segment(generated, batch.first_masks, slice(-1, None))[:, 0] > 0


def score_masks(
    tracked: Bool[Tensor, "b t h w"], batch: Batch, protocol: str = "official"
) -> list[dict[str, float]]:
    """``l2``, ``chamfer``, ``iou`` and ``time_error`` (s; NaN without a known height) per clip."""
    return [
        _score_clip(tracked[i], batch.masks[i, -1], batch.fps_hz, height, protocol)
        for i, height in enumerate(batch.drop_height_m.tolist())
    ]


def score_videos(
    generated: Float[Tensor, "b 3 t h w"],
    batch: Batch,
    tracker: Tracker,
    protocol: str = "official",
) -> list[dict[str, float]]:
    """``score_masks`` of the tracked dropping objects."""
    return score_masks(track_dropping(generated, batch, tracker), batch, protocol)


def evaluate_model(
    source: VideoSource,
    batches: Iterable[Batch],
    tracker: Tracker,
    *,
    model: str,
    split: str,
    seed: int = 0,
    protocol: str = "official",
    device: torch.device | str = "cpu",
) -> Iterator[ClipResult]:
    """Generate and score clip after clip; tensors of the results are on the CPU.

    ``model`` and ``split`` are the names the rows carry (``truth``, ``frozen``, ``psft``, ...;
    ``sim_seen``, ...).
    """
    for batch in batches:
        batch = batch.to(device)
        generated = source(batch, seed)
        tracked = track_dropping(generated, batch, tracker)
        scores = score_masks(tracked, batch, protocol)
        videos = to_uint8(generated)
        for i, name in enumerate(batch.names):
            row = {"model": model, "split": split, "clip": name, "seed": seed} | scores[i]
            row["num_objects"] = int(batch.first_masks[i].any(dim=(-2, -1)).sum())
            yield ClipResult(row, videos[i].cpu(), tracked[i].cpu())


def summarise(rows: Sequence[dict[str, Any]], metric: str) -> tuple[float, int]:
    """Mean over the rows where the metric is a number, and how many these are (NaN and 0)."""
    values = [row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))]
    return (sum(values) / len(values) if values else math.nan), len(values)


def _score_clip(
    tracked: Tensor, true_mask: Tensor, fps_hz: float, drop_height_m: float, protocol: str
) -> dict[str, float]:
    truth, generated = true_mask.cpu().numpy(), tracked.cpu().numpy()
    scores = evaluate_pair(truth, generated, fps_hz, fps_hz, protocol=protocol)
    kept = {metric: float(scores[metric]) for metric in ("l2", "chamfer", "iou")}
    if "miss_rate" in scores:
        kept["miss_rate"] = float(scores["miss_rate"])
    if math.isnan(drop_height_m):
        return kept | {"time_error": math.nan}
    return kept | {"time_error": float(time_error(generated, fps_hz, drop_height_m))}
