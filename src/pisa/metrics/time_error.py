"""Time error of a drop (paper Appendix B, Eq. 8).

The true impact is at ``t_drop = sqrt(2 Y_0 / g)`` after release in frame 0. The paper estimates the
impact as the first frame ``F`` whose centroid velocity in y is negative. It measures y upwards in
the text but masks have y downwards, so read literally a drop would start with a negative velocity;
what is meant is the first frame at which the centroid stops falling. Here that is the first frame
after the object has started to fall in which it falls by less than a tenth of its fastest fall per
frame so far (that covers a bounce upwards and a landing that just stops). "Started to fall" is 2 %
of the frame height below its highest position so far, so that jitter at rest isn't an impact. So
that a slow fall on the pixel grid isn't one either, the fall per frame must drop by more than 1.5
px, or the object must not get 2 % of the frame height lower afterwards.

Frames without a mask are skipped; a fall across such a gap is divided by its length.

What the paper leaves open:

* **No impact within the clip** (still falling at the end, or vanished): the impact is later than
  the last frame, so the error is ``max(0, t_last - t_drop)``.
* **Never falls** (hovers, rises, or is never seen): the worst estimate within the clip,
  ``max(t_drop, |t_last - t_drop|)``, so that hovering is never better than a wrong fall.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from pisa.ops.masks import MaskError, Masks, centroids, select_object, to_binary
from pisa.types import GRAVITY_M_S2

_STOP_FRACTION = 0.1
_START_FRACTION = 0.02
_CLEAR_STOP_PX = 1.5


def time_error(
    gen_masks: Masks,
    fps_hz: float,
    drop_height_m: float,
    *,
    gravity_m_s2: float = GRAVITY_M_S2,
) -> float:
    """Time error in seconds, 0 when the true impact lies in ``[F - 1, F] / fps``.

    ``gen_masks`` is ``[T, H, W]`` of the dropping object (or ``[T, N, H, W]``: the last object).
    Raises ``MaskError`` for an empty clip and for a rate, height or gravity that isn't positive.
    """
    values = {"fps_hz": fps_hz, "drop_height_m": drop_height_m, "gravity_m_s2": gravity_m_s2}
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise MaskError(f"{name} must be a positive number, not {value}")
    masks = to_binary(select_object(gen_masks))
    if len(masks) == 0:
        raise MaskError("the clip has no frames")
    drop_time_s = math.sqrt(2 * drop_height_m / gravity_m_s2)
    last_time_s = (len(masks) - 1) / fps_hz
    y_px = centroids(masks)[:, 1]
    fall_px = _START_FRACTION * masks.shape[1]
    if not _falls(y_px, fall_px):
        return max(drop_time_s, abs(last_time_s - drop_time_s))
    impact = impact_frame(y_px, fall_px)
    if impact is None:
        return max(0.0, last_time_s - drop_time_s)
    before_s, after_s = (impact - 1) / fps_hz, impact / fps_hz
    if before_s <= drop_time_s <= after_s:
        return 0.0
    return min(abs(before_s - drop_time_s), abs(after_s - drop_time_s))


def impact_frame(y_px: Float[np.ndarray, " t"], fall_px: float) -> int | None:
    """First frame in which the object, having fallen by ``fall_px``, stops falling; None if none.

    ``y_px`` is the centroid's height in the image, downwards, NaN where there is no mask.
    """
    seen = np.flatnonzero(~np.isnan(y_px))
    highest, fastest = np.inf, 0.0
    for earlier, later in pairwise(seen):
        highest = min(highest, y_px[earlier])
        speed = (y_px[later] - y_px[earlier]) / (later - earlier)  # px per frame, downwards
        started = y_px[earlier] - highest >= fall_px
        settled = np.nanmax(y_px[later:]) < y_px[earlier] + fall_px
        stopped = speed < _STOP_FRACTION * fastest
        if started and stopped and (settled or fastest - speed > _CLEAR_STOP_PX):
            return int(later)
        fastest = max(fastest, speed)
    return None


def _falls(y_px: Float[np.ndarray, " t"], fall_px: float) -> bool:
    """Whether the object is ever ``fall_px`` below an earlier position."""
    seen = y_px[~np.isnan(y_px)]
    return bool(len(seen)) and bool((seen - np.minimum.accumulate(seen) >= fall_px).any())
