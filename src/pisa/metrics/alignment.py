"""Which frames of a pair are compared: object choice and frame-rate alignment (paper Eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pisa.ops.masks import (
    AnnotatedPoints,
    MaskError,
    Masks,
    centroids,
    dropping_object_index,
    select_object,
)

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

    @cached_property
    def gt_centroid_px(self) -> Float[np.ndarray, "k 2"]:
        """(x, y) per frame; NaN where the mask is empty."""
        return centroids(self.gt)

    @cached_property
    def gen_centroid_px(self) -> Float[np.ndarray, "k 2"]:
        """(x, y) per frame; NaN where the mask is empty."""
        return centroids(self.gen)


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
    *,
    frame_index: FrameIndex,
    binarise: Binarise,
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
    wanted = [frame_index(i, gt_fps_hz, gen_fps_hz) for i in range(len(gen))]
    kept = np.array([j for j in wanted if j < len(gt)], dtype=np.int64)
    if len(kept) and gt.shape[1:] != gen.shape[1:]:
        raise MaskError(
            f"ground-truth masks are {gt.shape[1]}x{gt.shape[2]} px, "
            f"generated masks {gen.shape[1]}x{gen.shape[2]} px (height x width)"
        )
    aligned_gt, aligned_gen = binarise(gt[kept]), binarise(gen[: len(kept)])
    return AlignedPair(aligned_gt, aligned_gen, kept, len(gt), len(gen))


def summarise(
    pair: AlignedPair,
    per_frame: dict[str, Float[np.ndarray, " k"]],
    mean: Callable[[Shaped[np.ndarray, " k"]], float],
) -> dict[str, Any]:
    """The result dictionary of a protocol: means, frame counts and per-frame arrays."""
    return {
        **{name: mean(values) for name, values in per_frame.items()},
        "num_frames_gt": pair.num_frames_gt,
        "num_frames_gen": pair.num_frames_gen,
        "num_frames_compared": len(pair.gt_index),
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
