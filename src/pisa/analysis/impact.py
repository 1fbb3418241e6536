"""When the object of a clip hits the floor, and what else may have become of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

STATUSES = ("impact", "falling", "hovering", "lost")
_START = 0.02  # of the frame height: less is no fall
_LOW = 0.95
_LATE = 0.1  # frames: the median over true clips of the tiny ambiguous set
_STEP = 0.1  # frames, between the impacts that are tried
_SCALE = 1 / 128  # of the frame height: larger errors count by their size, smaller ones squared
_UNTOLD = 0.5  # frames: a fall that stops later than that before the end is not told from one on
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
    """Read off the mask of one object that is released in frame 0.

    Of its lowest rows, since the centroid of one that lands on an edge and tips over goes on
    falling for some frames. It is fitted to all frames: where ``metrics.time_error`` compares
    neighbouring ones, half a pixel of jitter, which generated clips have, ends the fall early.
    """
    return read_drop(low_rows_px(masks), masks.shape[1])


def read_drop(low_px: Float[np.ndarray, " t"], height_px: int) -> Drop:
    """``find_drop`` from ``low_rows_px`` of the masks; ``height_px`` is that of a frame."""
    if np.isnan(low_px[1:]).all():
        return Drop("lost", None)
    time, fallen_px = fit_fall(low_px, _SCALE * height_px)
    if fallen_px < _START * height_px:
        return Drop("hovering", None)
    if time > np.flatnonzero(~np.isnan(low_px))[-1] - _UNTOLD:
        return Drop("falling", None)
    return Drop("impact", max(1, math.ceil(time - _LATE)))


def fit_fall(y_px: Float[np.ndarray, " t"], scale_px: float) -> tuple[float, float]:
    """Time of the impact in frames and the depth of the fall in pixels, from all frames at once.

    A fall from rest at an even rate that stops at once, ``y_0 + a min(t, t_impact)^2 / 2``, is
    fitted by Huber's loss (``scale_px``) for every tenth of a frame. ``y_px`` points downwards and
    is in pixels and NaN where nothing is seen; an impact at the last seen frame means none.
    """
    frames = np.flatnonzero(~np.isnan(y_px))
    fallen = y_px[frames] - y_px[frames[0]]
    times = np.round(np.arange(1.0, frames[-1] + _STEP / 2, _STEP), 6)
    if not times.size:
        return float(frames[-1]), 0.0
    shape = np.minimum(frames, times[:, None]) ** 2 / 2  # of each impact that is tried
    weight = np.ones_like(shape)
    for _ in range(_ITERATIONS):
        norm = np.maximum((weight * shape**2).sum(axis=1), np.finfo(float).eps)
        rate = (weight * shape * fallen).sum(axis=1) / norm
        error = np.abs(fallen - rate[:, None] * shape)
        weight = 1 / np.maximum(error, scale_px)
    loss = np.where(error < scale_px, error**2 / 2, scale_px * (error - scale_px / 2)).sum(axis=1)
    best = int(np.argmin(loss))
    return float(times[best]), float(rate[best] * times[best] ** 2 / 2)


def low_rows_px(masks: Bool[np.ndarray, "t h w"]) -> Float[np.ndarray, " t"]:
    """The row (pixels from the top) above which 95 % of the object lie; NaN without an object.

    Single pixels below it don't count.
    """
    rows = [np.nonzero(mask)[0] for mask in masks]
    return np.array([np.quantile(r, _LOW) if r.size else np.nan for r in rows])


def count_statuses(drops: Iterable[Drop]) -> dict[str, int]:
    """How many drops have each status."""
    counts = Counter(drop.status for drop in drops)
    return {status: counts[status] for status in STATUSES}
