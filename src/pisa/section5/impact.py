"""Impact times read from masks: when the object of a clip hits the floor, if it does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt16

STATUSES = ("impact", "falling", "hovering", "lost")
_START = 0.02  # of the frame height: less is not a fall
_LOW = 0.1  # of the object's pixels
_STEP = 0.1  # frames, between the impacts that are tried
_SCALE = 1 / 256  # of the frame height: larger errors count by their size, smaller ones squared
_STILL = 3.0  # weight of the squared rate after the impact, in pixels per frame
_MARGIN = 0.5  # frames: an impact this close to the end is not told apart from a fall that lasts
_ITERATIONS = 6


@dataclass(frozen=True)
class Drop:
    """``frame``: the impact is in ``(frame - 1, frame] / fps``; None without an impact.

    ``status``: ``impact``; ``falling`` until the end or out of sight; ``hovering``, never falls;
    ``lost``, never seen after frame 0.
    """

    status: str
    frame: int | None

    def category(self, num_frames: int) -> int:
        """The frame, or ``num_frames`` (censored)."""
        return num_frames if self.frame is None else self.frame


def find_drop(masks: Bool[np.ndarray, "t h w"]) -> Drop:
    """The impact of one object that is released in frame 0, read from its mask.

    Only the lowest rows count, since the centroid of an object that lands on an edge and tips over
    falls for some frames more. The fall is fitted to all frames: ``metrics.time_error`` compares
    neighbouring ones, so half a pixel of jitter, as in generated clips, would end the fall early.
    """
    return read_drop(count_rows(masks))


def count_rows(masks: Bool[np.ndarray, "t h w"]) -> UInt16[np.ndarray, "t h"]:
    """How many pixels of the object each row holds: all that ``read_drop`` needs of a clip."""
    return masks.sum(axis=2, dtype=np.uint16)


def read_drop(row_counts: UInt16[np.ndarray, "t h"]) -> Drop:
    """``find_drop`` from the ``count_rows`` of the masks."""
    height_px = row_counts.shape[1]
    low_px = low_rows_px(row_counts)
    if np.isnan(low_px[1:]).all():
        return Drop("lost", None)
    time, fallen_px = fit_fall(low_px, _SCALE * height_px)
    if fallen_px < _START * height_px:
        return Drop("hovering", None)
    if time > np.flatnonzero(~np.isnan(low_px))[-1] - _MARGIN:
        return Drop("falling", None)
    return Drop("impact", math.ceil(time))


def fit_fall(y_px: Float[np.ndarray, " t"], scale_px: float) -> tuple[float, float]:
    """Time of the impact in frames and the depth of the fall in pixels, from all frames at once.

    The model is a fall from rest at constant acceleration and, from the impact on, a slow drift
    (an object that tips over, rolls or rebounds): ``y_0 + a min(t, t_impact)^2 / 2 + b max(0, t -
    t_impact)``. For every tenth of a frame ``a`` and ``b`` are fitted by Huber's loss
    (``scale_px``) plus ``1.5 b^2``, without which a fall would pass for a drift. ``y_px`` points
    downwards, NaN where nothing is seen; an impact at the last seen frame means none.
    """
    frames = np.flatnonzero(~np.isnan(y_px))
    fallen = y_px[frames] - y_px[frames[0]]
    times = np.round(np.arange(1.0, frames[-1] + _STEP / 2, _STEP), 6)
    if not times.size:
        return float(frames[-1]), 0.0
    shape = np.minimum(frames, times[:, None]) ** 2 / 2  # of each impact that is tried
    since = np.maximum(frames - times[:, None], 0.0)
    weight = np.ones_like(shape)
    for _ in range(_ITERATIONS):
        aa, ab, bb = ((weight * x).sum(axis=1) for x in (shape**2, shape * since, since**2))
        a, b = ((weight * x * fallen).sum(axis=1) for x in (shape, since))
        bb = bb + _STILL
        norm = np.maximum(aa * bb - ab**2, np.finfo(float).eps)
        rate, drift = (bb * a - ab * b) / norm, (aa * b - ab * a) / norm
        error = np.abs(fallen - rate[:, None] * shape - drift[:, None] * since)
        weight = scale_px / np.maximum(error, scale_px)
    huber = np.where(error < scale_px, error**2 / 2, scale_px * (error - scale_px / 2))
    best = int(np.argmin(huber.sum(axis=1) + _STILL * drift**2 / 2))
    return float(times[best]), float(rate[best] * times[best] ** 2 / 2)


def low_rows_px(row_counts: UInt16[np.ndarray, "t h"]) -> Float[np.ndarray, " t"]:
    """The mean row of the lowest tenth of the object, from the top; NaN without an object.

    A mean over many pixels is finer than the pixels, and single ones below it hardly count.
    """
    counts = row_counts[:, ::-1].astype(float)  # the lowest first
    wanted = np.maximum(_LOW * counts.sum(axis=1, keepdims=True), 1.0)
    lower = np.cumsum(counts, axis=1) - counts  # pixels in the rows under each
    taken = np.clip(wanted - lower, 0.0, counts)
    rows = np.arange(row_counts.shape[1])[::-1]
    total = taken.sum(axis=1)
    return np.where(total > 0, (taken * rows).sum(axis=1) / np.maximum(total, 1.0), np.nan)


def count_statuses(drops: Iterable[Drop]) -> dict[str, int]:
    """How many drops have each status."""
    counts = Counter(drop.status for drop in drops)
    return {status: counts[status] for status in STATUSES}
