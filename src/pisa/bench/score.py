"""The scorer: true clips, videos of them, a tracker and a protocol make rows of metrics.json.

Training's PisaBench, ``eval.py`` on models and on videos, and section 5 all come through here. A
clip is scored on the mask of its dropping object: the tracker follows the object from its true
first-frame mask (or its annotated points) through the video, and the metrics compare with the true
masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from pisa.bench import first_frame
from pisa.bench.references import VideoSource
from pisa.bench.row import ScoreRow, check_rates, row_of
from pisa.errors import PisaError, check_choice
from pisa.metrics import evaluate_pair, time_error
from pisa.metrics.beyond import (
    falls,
    galileo_ratio,
    object_measures,
    pixel_measures,
    video_difference,
)
from pisa.metrics.pair import find_protocol
from pisa.metrics.readout import read_out
from pisa.ops.video import to_frames, to_uint8
from pisa.perception.base import PointTracker, Tracker
from pisa.perception.mask_cache import CachedTracker
from pisa.rewards.base import Reward, rewards_of
from pisa.types import Batch

_ALIKE = 0.25


@dataclass(frozen=True)
class Failure:
    """A sample that has no score, and why."""

    model: str
    split: str
    clip: str
    seed: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Scored:
    """A row, and what a report shows of it; tensors are on the CPU."""

    row: ScoreRow
    video: UInt8[Tensor, "3 t h w"]
    mask: Bool[Tensor, "t h w"]  # of the dropping object, as tracked

    @property
    def clip(self) -> str:
        return self.row.clip

    @property
    def frames(self) -> UInt8[np.ndarray, "t h w 3"]:
        """The video, 0 to 255, in the layout of image files."""
        return rearrange(self.video, "c t h w -> t h w c").numpy()

    def with_columns(self, **columns: Any) -> Scored:
        """A copy whose row has these values, by name of the column."""
        return replace(self, row=replace(self.row, **columns))


class Scorer:
    """Tracks the dropping object through videos and compares it with its true masks.

    Raises:
        PisaError: there is no such protocol.
    """

    def __init__(
        self,
        tracker: Tracker,
        protocol: str = "official",
        device: torch.device | str = "cpu",
        prompt: str = "mask",
    ) -> None:
        self.protocol = find_protocol(protocol).name
        self.tracker, self.device, self.prompt = tracker, device, check_prompt(prompt, tracker)
        if isinstance(tracker, nn.Module):
            tracker.to(device).eval()

    def score(
        self,
        truth: Batch,
        videos: Float[Tensor, "b 3 t h w"],
        *,
        model: str,
        split: str,
        seed: int = 0,
        fps_hz: float | None = None,
    ) -> list[Scored | Failure]:
        """One result per clip; ``videos`` are in [-1, 1] at the clips' size.

        They keep their own length and rate (None: that of the clips); the metrics align the two
        (paper Eq. 5). A video that holds NaN or infinity is a failure: the tracker would find no
        object in it, which would pass for a score. Raises ``PisaError`` for implausible rates.
        """
        truth, videos = truth.to(self.device), videos.to(self.device)
        rate_hz = truth.fps_hz if fps_hz is None else fps_hz
        check_rates(truth.fps_hz, rate_hz)
        finite = videos.isfinite().flatten(1).all(dim=1)
        if not finite.all():  # else no copy of a video that may be long
            videos = videos.where(finite[:, None, None, None, None], 0.0)
        tracked = track_dropping(videos, truth, self.tracker, self.prompt).cpu()
        true_masks = truth.masks.cpu().numpy()
        results: list[Scored | Failure] = []
        for i, clip in enumerate(truth.names):
            key: dict[str, Any] = {"model": model, "split": split, "clip": clip, "seed": seed}
            if not finite[i]:
                results.append(Failure(**key, reason="the video holds NaN or infinity"))
                continue
            masks, true = tracked[i].numpy(), true_masks[i, -1]
            result = evaluate_pair(true, masks, truth.fps_hz, rate_hz, protocol=self.protocol)
            height_m = float(truth.drop_height_m[i])
            known = not math.isnan(height_m)
            row = row_of(
                result,
                true,
                truth.fps_hz,
                self.protocol,
                **key,
                time_error=float(time_error(masks, rate_hz, height_m)) if known else None,
                num_objects=int(true_masks[i, :, 0].any(axis=(-2, -1)).sum()),
                first_frame_difference=first_frame.difference(
                    truth.video[i, :, 0], videos[i, :, 0], truth.masks[i, :, 0]
                ),
                **self._beyond(truth.clips(slice(i, i + 1)), videos[i], masks, rate_hz),
            )
            results.append(Scored(row, to_uint8(videos[i]).cpu(), tracked[i]))
        return results

    def _beyond(
        self, truth: Batch, video: Float[Tensor, "3 t h w"], masks: np.ndarray, fps_hz: float
    ) -> dict[str, float]:
        """Measures that need no true clip; ``truth`` only says which of them a clip can have."""
        others = truth.first_masks[0, :-1].any(dim=0).cpu().numpy()
        found = object_measures(masks) | pixel_measures(to_frames(video), masks, others)
        scale = math.nan if truth.px_per_m is None else float(truth.px_per_m[0])
        if not math.isnan(scale):
            found["g_m_s2"] = read_out(masks, fps_hz, scale).g_m_s2
        other = second_falling(truth)
        if other is not None:
            chosen = slice(other, other + 1)
            tracked = self.tracker.segment(video[None], truth.first_masks, chosen)[0, 0] > 0
            found["galileo"] = galileo_ratio(masks, tracked.cpu().numpy(), fps_hz)
        return found

    def score_source(
        self,
        source: VideoSource,
        batches: Iterable[Batch],
        *,
        model: str,
        split: str,
        seed: int = 0,
        diversity: bool = False,
        reward: Reward | None = None,
    ) -> Iterator[Scored | Failure]:
        """Generate and score batch after batch.

        ``diversity`` takes a second video of each clip; ``reward`` gives the column of that name.
        """
        for batch in batches:
            batch = batch.to(self.device)
            videos = source(batch, seed)
            results = self.score(batch, videos, model=model, split=split, seed=seed)
            nothing = [None] * len(results)
            others = source(batch, seed + 1) if diversity else nothing
            rewards = nothing if reward is None else self._rewards(reward, videos, batch)
            for result, other, value in zip(results, others, rewards, strict=True):
                if isinstance(result, Scored):
                    if other is not None and other.isfinite().all():
                        difference = video_difference(result.frames, to_frames(other))
                        result = result.with_columns(diversity=difference)
                    result = result.with_columns(reward=value)
                yield result

    @torch.no_grad()
    def _rewards(
        self, reward: Reward, videos: Float[Tensor, "b 3 t h w"], batch: Batch
    ) -> list[float]:
        length = min(videos.shape[2], batch.video.shape[2])
        values = rewards_of(reward, videos[:, :, :length], batch.frames(slice(length)))
        return [float(value) for value in values]


def second_falling(truth: Batch) -> int | None:
    """An object of one clip that falls as the dropping one does, to within a quarter.

    None where only one falls: others at rest, struck on the way, or at another depth.
    """
    *others, dropping = truth.masks[0].cpu().numpy()
    for index, other in enumerate(others):
        if other[0].any() and falls(other):
            ratio = galileo_ratio(dropping, other, truth.fps_hz)
            if abs(ratio - 1) <= _ALIKE:
                return index
    return None


PROMPTS = ("mask", "points")


def check_prompt(prompt: str, tracker: Tracker) -> str:
    """The prompt itself. Raises ``PisaError`` for another, or points for a tracker without."""
    check_choice("prompt", prompt, PROMPTS)
    inner = tracker.tracker if isinstance(tracker, CachedTracker) else tracker
    if prompt == "points" and not isinstance(inner, PointTracker):
        raise PisaError(
            f"prompt=points needs a tracker that takes points, which {type(inner).__name__} does "
            "not: perception=pretrained, or prompt=mask"
        )
    return prompt


@torch.no_grad()
def track_dropping(
    videos: Float[Tensor, "b 3 t h w"], truth: Batch, tracker: Tracker, prompt: str = "mask"
) -> Bool[Tensor, "b t h w"]:
    """Masks of the dropping (last) object, tracked from its true first-frame mask.

    With the prompt ``points``, from its annotated points in the clips that have them.
    """
    if prompt == "mask":
        return tracker.segment(videos, truth.first_masks, slice(-1, None))[:, 0] > 0
    assert isinstance(tracker, PointTracker), "check_prompt has seen to it"
    points = truth.points or (None,) * len(truth)
    found = [
        tracker.segment(video[None], first[None], slice(-1, None))[0, 0]
        if given is None
        else tracker.segment_points(video, [given])[0]
        for video, first, given in zip(videos, truth.first_masks, points, strict=True)
    ]
    return torch.stack(found) > 0
