"""When the object of a clip hits the floor, and what else may have become of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pisa.metrics.time_error import impact_frame
from pisa.ops.masks import centroids

STATUSES = ("impact", "falling", "hovering", "lost")
_START = 0.02  # of the frame height: less is no fall
_LOW = 0.9
_REST = 0.2  # of the fastest step
_REST_PX = 0.25


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
    """Read off the mask of one object (``pisa.metrics.time_error`` says how).

    An object that lands on an edge tips over, and its centroid goes on falling for some frames
    while its lowest rows are at rest already: where these stop more than a frame earlier, they tell
    the impact. And where the object stands still through the whole braked step, it came to rest at
    the frame before.
    """
    if not masks[1:].any():
        return Drop("lost", None)
    y_px = centroids(masks)[:, 1]
    fall_px = _START * masks.shape[1]
    frame = impact_frame(y_px, fall_px)
    low_px = _low_rows_px(masks)
    lowest = impact_frame(low_px, fall_px)
    if lowest is not None and (frame is None or frame - lowest > 1):
        frame = lowest
    if frame is not None:
        return Drop("impact", frame - _rests_before(frame, y_px, low_px))
    seen = y_px[~np.isnan(y_px)]
    falls = (seen - np.minimum.accumulate(seen) >= fall_px).any()
    return Drop("falling" if falls else "hovering", None)


def _rests_before(
    frame: int, y_px: Float[np.ndarray, " t"], low_px: Float[np.ndarray, " t"]
) -> bool:
    """Whether neither the centroid nor the lowest rows went on falling in the step to ``frame``."""
    steps_px = np.diff(y_px[: frame + 1])
    if frame < 2 or np.isnan(steps_px[-1]):
        return False
    centroid_rests = steps_px[-1] < _REST * np.nanmax(steps_px)
    return bool(centroid_rests and low_px[frame] - low_px[frame - 1] <= _REST_PX)


def _low_rows_px(masks: Bool[np.ndarray, "t h w"]) -> Float[np.ndarray, " t"]:
    """The row above which 90 % of the object lie; single pixels below it don't count."""
    rows = [np.nonzero(mask)[0] for mask in masks]
    return np.array([np.quantile(r, _LOW) if r.size else np.nan for r in rows])


def count_statuses(drops: Iterable[Drop]) -> dict[str, int]:
    """How many drops have each status."""
    counts = Counter(drop.status for drop in drops)
    return {status: counts[status] for status in STATUSES}
