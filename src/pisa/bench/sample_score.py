"""One video against one clip: tracked, scored, and thinned out for the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from pisa.bench.row import row_of
from pisa.metrics import evaluate_pair, time_error
from pisa.ops.video import from_frames, to_frames
from pisa.perception.base import Tracker
from pisa.types import Clip, collate

SHOWN_FPS_HZ = 16.0
_SHOWN_FRAMES, _SHOWN_PX = 64, 128
Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class ScoredSample:
    """A row of metrics.json, and what the report shows (``frames`` and ``mask`` at 16 Hz)."""

    row: dict[str, Any]
    shown: dict[str, Any]


def true_frames(clip: Clip) -> Frames:
    """Reference ``truth``: the clip itself, so that what is left is the tracker's error."""
    return to_frames(clip.video)


def frozen_frames(clip: Clip) -> Frames:
    """Reference ``frozen``: the first frame held."""
    return np.repeat(to_frames(clip.video[:, :1]), clip.video.shape[1], axis=0)


REFERENCES: dict[str, Callable[[Clip], Frames]] = {"truth": true_frames, "frozen": frozen_frames}


class SampleScorer:
    """Tracks the dropping object from its true first-frame mask and compares with its true masks.

    The video keeps its own length and rate; the metrics align the two (paper Eq. 5).
    """

    def __init__(
        self, tracker: Tracker, protocol: str, split: str, device: torch.device | str = "cpu"
    ) -> None:
        self.tracker, self.protocol, self.split, self.device = tracker, protocol, split, device

    def score(
        self, clip: Clip, model: str, seed: int, frames: Frames, fps_hz: float
    ) -> ScoredSample:
        """``frames`` are of the clip's frame size; the row lacks time error where it is unknown."""
        batch = collate([clip])
        video = from_frames(frames)[None].to(self.device)
        first_masks = batch.first_masks.to(self.device)
        logits = self.tracker.segment(video, first_masks, slice(-1, None))
        mask = (logits[0, 0] > 0).cpu().numpy()
        truth = batch.masks[0, -1].numpy()
        result = evaluate_pair(truth, mask, clip.fps_hz, fps_hz, protocol=self.protocol)
        row = {"model": model, "split": self.split, "clip": clip.name, "seed": seed}
        row |= row_of(result)
        if clip.drop_height_m is not None:
            row["time_error"] = float(time_error(mask, fps_hz, clip.drop_height_m))
        return ScoredSample(row, thin(frames, mask, fps_hz))


def thin(frames: Frames, mask: Bool[np.ndarray, "t h w"], fps_hz: float) -> dict[str, Any]:
    """At most 64 frames, 16 per second, and at most 128 px a side: what a report can carry."""
    wanted = (np.arange(_SHOWN_FRAMES) * fps_hz / SHOWN_FPS_HZ).astype(int)
    index = wanted[wanted < len(frames)]
    step = -(-max(frames.shape[1:3]) // _SHOWN_PX)
    return {"frames": frames[index][:, ::step, ::step], "mask": mask[index][:, ::step, ::step]}
