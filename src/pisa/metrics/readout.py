"""Physics read off one object's mask trajectory: gravity, drift, bounce, contact, shape.

A level camera maps a fall at constant depth to ``y = y_0 + g_px t^2 / 2`` in the image, so that the
fitted acceleration in px per frame squared is gravity times ``px_per_m / fps^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

from pisa.metrics.time_error import impact_frame
from pisa.ops.masks import Masks, bounding_box, centroids, select_object, to_binary
from pisa.types import Camera

_START = 0.02  # of the frame height: less is no fall
_SETTLED_PX = 0.25
_STRAY = 0.085  # of the object's height


@dataclass(frozen=True)
class Readout:
    """NaN (None for ``impact_frame``) where the trajectory does not show the quantity.

    ``g_px`` is positive downwards. Intervals are 95 % of the least-squares fit, widened by
    what its scatter cannot show: the centroid of what is seen strays from the fall, evenly over the
    frames, as the view of the object changes or others hide parts of it.
    """

    g_px: float  # px / frame^2, over the frames before the impact
    g_px_ci95: tuple[float, float]
    g_m_s2: float  # NaN without a scale
    g_m_s2_ci95: tuple[float, float]
    impact_frame: int | None  # first frame after the contact
    drift_px: float  # largest |x - x_0| before the impact
    restitution: float  # fastest rise after the impact / fastest fall before it
    contact_s: float  # from the impact until the object first rises again or rests
    shape_change: float  # largest change of the box's log aspect ratio or log area before impact


def px_per_metre(camera: Camera, depth_m: float) -> float:
    """Scale at a distance ``depth_m`` along the view axis."""
    return camera.focal_px / depth_m


def read_out(masks: Masks, fps_hz: float, px_per_m: float | None = None) -> Readout:
    """Read one object's masks ``[T, H, W]`` (or ``[T, N, H, W]``: the last object)."""
    track = to_binary(select_object(masks))
    centre = centroids(track)
    impact = impact_frame(centre[:, 1], _START * track.shape[1])
    before = slice(0, len(track) if impact is None else max(impact, 1))
    g_px, interval = fit_gravity(centre[before, 1])
    stray_px = _stray_px(track[before])
    interval = (interval[0] - stray_px, interval[1] + stray_px)
    scale = float("nan") if px_per_m is None else fps_hz**2 / px_per_m
    return Readout(
        g_px=g_px,
        g_px_ci95=interval,
        g_m_s2=g_px * scale,
        g_m_s2_ci95=(interval[0] * scale, interval[1] * scale),
        impact_frame=impact,
        drift_px=_largest(np.abs(centre[before, 0] - centre[0, 0])),
        restitution=_restitution(centre[:, 1], impact),
        contact_s=_contact_frames(centre[:, 1], impact) / fps_hz,
        shape_change=_shape_change(track[before]),
    )


def fit_gravity(y_px: Float[np.ndarray, " t"]) -> tuple[float, tuple[float, float]]:
    """Acceleration of a fall from rest in frame 0, px / frame^2, and its 95 % interval.

    Least squares of ``y = y_0 + g t^2 / 2`` over the frames with a mask; NaN with fewer than three.
    """
    seen = np.flatnonzero(~np.isnan(y_px))
    if len(seen) < 3:
        return float("nan"), (float("nan"), float("nan"))
    design = np.stack([np.ones(len(seen)), seen**2 / 2], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    solution = inverse @ design.T @ y_px[seen]
    spare = len(seen) - 2
    variance = float(((y_px[seen] - design @ solution) ** 2).sum()) / spare
    half = float(stdtrit(spare, 0.975)) * np.sqrt(variance * inverse[1, 1])
    g_px = float(solution[1])
    return g_px, (g_px - float(half), g_px + float(half))


def _stray_px(track: Bool[np.ndarray, "t h w"]) -> float:
    """Acceleration, px / frame^2, of a centroid that strays by ``_STRAY`` until the last mask."""
    seen = np.flatnonzero(track.any(axis=(1, 2)))
    box = bounding_box(track[seen[0]]) if len(seen) > 1 else None
    if box is None:
        return float("nan")
    return float(2 * _STRAY * (box[0].stop - box[0].start) / seen[-1] ** 2)


def _restitution(y_px: Float[np.ndarray, " t"], impact: int | None) -> float:
    if impact is None or impact + 1 >= len(y_px):
        return float("nan")
    fall, rise = _largest(np.diff(y_px[:impact])), _largest(-np.diff(y_px[impact:]))
    return max(0.0, rise) / fall if fall > 0 else float("nan")


def _contact_frames(y_px: Float[np.ndarray, " t"], impact: int | None) -> float:
    if impact is None:
        return float("nan")
    step = np.diff(y_px[impact:])
    done = np.flatnonzero(step <= _SETTLED_PX)
    return float(done[0]) if len(done) else float("nan")


def _shape_change(track: Bool[np.ndarray, "t h w"]) -> float:
    shapes = []
    for mask in track:
        box = bounding_box(mask)
        if box is not None:
            height, width = (s.stop - s.start for s in box)
            shapes.append((np.log(height / width), np.log(np.count_nonzero(mask))))
    if not shapes:
        return float("nan")
    return float(np.abs(np.array(shapes) - shapes[0]).max())


def _largest(values: Float[np.ndarray, " n"]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.max()) if len(defined) else float("nan")
