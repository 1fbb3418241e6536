"""Which frames of a pair are compared (paper Eq. 5), and what every protocol reports of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pisa.metrics.pieces import extra_pieces
from pisa.ops.masks import (
    AnnotatedPoints,
    MaskError,
    Masks,
    centroids,
    dropping_object_index,
    select_object,
)

DURATION_S = 2.0  # of the paper's simulated clips and of what its own model makes (section 4.1)
MIN_FPS_HZ = 8.0  # the lowest rate of a model in paper Table 4
_ROUNDING = 1e-6  # of frame counts, in the clip's favour

FrameIndex = Callable[[int, float, float], int]
Binarise = Callable[[Masks], Bool[np.ndarray, "*shape"]]


@dataclass(frozen=True)
class AlignedPair:
    """The dropping object's masks in K compared frames, and where they come from."""

    gt: Bool[np.ndarray, "k h w"]
    gen: Bool[np.ndarray, "k h w"]
    gt_index: Int[np.ndarray, " k"]
    num_frames_gt: int
    num_frames_gen: int
    gt_fps_hz: float
    gen_fps_hz: float

    @cached_property
    def gt_centroid_px(self) -> Float[np.ndarray, "k 2"]:
        """(x, y) per frame; NaN where the mask is empty."""
        return centroids(self.gt)

    @cached_property
    def gen_centroid_px(self) -> Float[np.ndarray, "k 2"]:
        """(x, y) per frame; NaN where the mask is empty."""
        return centroids(self.gen)

    @cached_property
    def extra_pieces(self) -> list[list[Bool[np.ndarray, "h w"]]]:
        """Per frame the large pieces of a generated mask with more pieces than the truth."""
        return [extra_pieces(a, b) for a, b in zip(self.gt, self.gen, strict=True)]

    @cached_property
    def area_ratio(self) -> Float[np.ndarray, " k"]:
        """Generated area per frame over the largest true area in the clip; NaN without truth."""
        largest = np.count_nonzero(self.gt, axis=(1, 2)).max(initial=0)
        return np.count_nonzero(self.gen, axis=(1, 2)) / (largest or np.nan)

    @property
    def coverage(self) -> float:
        """Fraction of the true clip's time during which generated frames are compared, 0..1."""
        if not self.num_frames_gt:
            return 0.0
        compared_s, shown_s = (
            len(self.gt_index) / self.gen_fps_hz,
            self.num_frames_gt / self.gt_fps_hz,
        )
        # At a higher rate than the truth's, the last frames are nearest to none of its frames.
        whole = compared_s + 0.5 / self.gt_fps_hz >= shown_s
        return 1.0 if whole else compared_s / shown_s

    @property
    def num_frames_uncovered(self) -> int:
        """Frames that the generated clip owes and lacks.

        It owes its own rate, and at least ``MIN_FPS_HZ``, for as long as the truth lasts, up to
        ``DURATION_S``.
        """
        due = num_frames_due(self.num_frames_gt, self.gt_fps_hz, self.gen_fps_hz)
        return max(0, due - len(self.gt_index))


@dataclass(frozen=True)
class Protocol:
    """One way to score a pair; ``score`` turns the aligned masks into the result."""

    name: str
    frame_index: FrameIndex
    binarise: Binarise
    score: Callable[[AlignedPair], dict[str, Any]]


def floor_frame(i: int, gt_fps_hz: float, gen_fps_hz: float) -> int:
    """Ground-truth frame of generated frame ``i`` as the paper's release takes it (floor)."""
    return int(i * gt_fps_hz / gen_fps_hz)


def nearest_frame(i: int, gt_fps_hz: float, gen_fps_hz: float) -> int:
    """Ground-truth frame nearest in time to generated frame ``i``; half-way goes to the later.

    Paper Eq. 5 prints ``round(i * f_gen / f_gt)``, whose ratio is inverted: frame ``i`` is shown at
    ``i / f_gen``, which is frame ``i * f_gt / f_gen`` of the ground truth.
    """
    return math.floor(i * gt_fps_hz / gen_fps_hz + 0.5)


def align(
    gt_masks: Masks,
    gen_masks: Masks,
    gt_fps_hz: float,
    gen_fps_hz: float,
    points: AnnotatedPoints | None,
    protocol: Protocol,
) -> AlignedPair:
    """Pick the dropping object and pair each generated frame with one of the ground truth.

    Generated frames past the end of the ground truth are dropped. Raises ``MaskError`` if frames
    are compared whose sizes differ.
    """
    for name, fps_hz in (("gt_fps", gt_fps_hz), ("gen_fps", gen_fps_hz)):
        if not (math.isfinite(fps_hz) and fps_hz > 0):
            raise MaskError(f"{name} must be a positive number, not {fps_hz}")
    index = dropping_object_index(points)
    gt, gen = select_object(gt_masks, index), select_object(gen_masks, index)
    wanted = [protocol.frame_index(i, gt_fps_hz, gen_fps_hz) for i in range(len(gen))]
    kept = np.array([j for j in wanted if j < len(gt)], dtype=np.int64)
    if len(kept) and gt.shape[1:] != gen.shape[1:]:
        raise MaskError(
            f"ground-truth masks are {gt.shape[1]}x{gt.shape[2]} px, "
            f"generated masks {gen.shape[1]}x{gen.shape[2]} px (height x width)"
        )
    return AlignedPair(
        gt=protocol.binarise(gt[kept]),
        gen=protocol.binarise(gen[: len(kept)]),
        gt_index=kept,
        num_frames_gt=len(gt),
        num_frames_gen=len(gen),
        gt_fps_hz=gt_fps_hz,
        gen_fps_hz=gen_fps_hz,
    )


def num_frames_due(num_frames_gt: int, gt_fps_hz: float, gen_fps_hz: float) -> int:
    """How many frames a generated clip owes.

    Those that end before the truth and before ``DURATION_S``, and are nearest to one of its frames
    (at a higher rate than the truth's, the last ones are not).
    """
    rate_hz = max(gen_fps_hz, MIN_FPS_HZ)
    shown = min(num_frames_gt / gt_fps_hz, DURATION_S) * rate_hz
    paired = (num_frames_gt - 0.5) / gt_fps_hz * rate_hz
    return max(0, min(int(shown + _ROUNDING), math.ceil(paired - _ROUNDING)))


def summarise(
    pair: AlignedPair,
    per_frame: dict[str, Float[np.ndarray, " k"]],
    mean: Callable[[Shaped[np.ndarray, " k"]], float],
) -> dict[str, Any]:
    """The result dictionary of a protocol: means, rates, frame counts and per-frame arrays."""
    return {
        **{name: mean(values) for name, values in per_frame.items()},
        **_rates(pair),
        "coverage": pair.coverage,
        "area_ratio": float(np.max(pair.area_ratio, initial=0.0)),
        "num_frames_gt": pair.num_frames_gt,
        "num_frames_gen": pair.num_frames_gen,
        "num_frames_compared": len(pair.gt_index),
        "num_frames_uncovered": pair.num_frames_uncovered,
        "per_frame": {
            **per_frame,
            "gt_index": pair.gt_index,
            "gt_centroid_px": pair.gt_centroid_px,
            "gen_centroid_px": pair.gen_centroid_px,
        },
    }


def mean_of_defined(values: Shaped[np.ndarray, " k"]) -> float:
    """Mean over the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _rates(pair: AlignedPair) -> dict[str, float]:
    """Missed, spurious and split frames (see ``evaluate_pair``); NaN where there are no frames."""
    in_gt, in_gen = (np.asarray(m.any(axis=(1, 2))) for m in (pair.gt, pair.gen))
    visible = np.count_nonzero(in_gt) + pair.num_frames_uncovered
    missed = np.count_nonzero(in_gt & ~in_gen) + pair.num_frames_uncovered
    split = [len(extra) > 0 for extra in pair.extra_pieces]
    return {
        "miss_rate": float(missed / visible) if visible else 0.0,
        "spurious_rate": float(in_gen[~in_gt].mean()) if (~in_gt).any() else 0.0,
        "split_rate": float(np.mean(split)) if split else float("nan"),
    }
