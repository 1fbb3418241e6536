"""Trajectories lifted to 3D (paper Appendix G, Figure 7) and how far from a possible fall they are.

The drop time ``t`` of a clip implies a height ``g t^2 / 2`` and, on the ray through the object's
bottom, a depth ``Z = (g t^2 / 2 - h) / beta``. At that depth every pixel row has a height; so the
bottom rows become a curve ``Y_i = h + beta_i Z`` (the paper's printed ``y_i + beta Z`` must mean
this: one slope per frame). Possible falls are ``Y(t) = max(0, h + beta Z' - g t^2 / 2)`` at every
depth ``Z'`` that the data set has.

The clip gives ``t`` to one frame only, which at small slopes leaves metres of depth open. As every
moment of that frame is equally good, the one that fits best is taken. An object that stops, or
turns upwards, before a fall from the camera's own height would be over, has no depth in front of
the camera.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pisa.bench.references import true_video
from pisa.errors import PisaError
from pisa.io.progress import clip_progress
from pisa.ops.drop_ray import DropRay, bottom_row_px, fallen_m, slope_of_row
from pisa.section5.impact import find_drop
from pisa.section5.study import StudyClip, Subject, sampled_masks
from pisa.types import Camera

MOMENTS = 21  # tried within the impact frame
DEPTHS = 201  # tried among the possible falls


@dataclass(frozen=True)
class Lifted:
    """One clip in 3D. NaN and empty where nothing is lifted.

    ``status`` is that of ``Drop``, or ``too_short``: the drop time implies no depth above 0.

    ``height_m`` is the lifted bottom in every frame before the impact, at ``implied_depth_m``;
    ``rms_m`` its distance in depth and height to the nearest possible fall, which starts at
    ``nearest_depth_m``. ``depth_m``: the true one, where there is one.
    """

    status: str
    slope: float
    camera_height_m: float
    drop_time_s: float = math.nan
    implied_depth_m: float = math.nan
    implied_height_m: float = math.nan
    nearest_depth_m: float = math.nan
    rms_m: float = math.nan
    time_s: tuple[float, ...] = ()
    height_m: tuple[float, ...] = ()
    depth_m: float | None = None


def lift(
    masks: Bool[np.ndarray, "t h w"],
    camera: Camera,
    fps_hz: float,
    depth_range_m: tuple[float, float],
    *,
    slope: float | None = None,
    depth_m: float | None = None,
) -> Lifted:
    """Lift the trajectory of one object.

    ``slope`` is that of the ray in frame 0 where it is known better than the mask shows it. Raises
    ``PisaError`` for a first mask that is empty.
    """
    rows = np.array([bottom_row_px(mask) for mask in masks])
    if np.isnan(rows[0]):
        raise PisaError("a trajectory cannot be lifted: the object isn't in the first frame")
    seen = float(slope_of_row(rows[0], camera))
    ray = DropRay(seen if slope is None else slope, camera.position_m[2], camera.focal_mm / 1000)
    drop = find_drop(masks)
    if drop.frame is None:
        return Lifted(drop.status, ray.slope, ray.camera_height_m, depth_m=depth_m)
    if ray.implied_depth_m(drop.frame / fps_hz) <= 0:
        return Lifted("too_short", ray.slope, ray.camera_height_m, depth_m=depth_m)
    frames = np.flatnonzero(~np.isnan(rows[: drop.frame]))
    slopes = ray.slope + np.asarray(slope_of_row(rows[frames], camera)) - seen
    best = _best_moment(slopes, frames / fps_hz, drop.frame, fps_hz, ray, depth_range_m)
    heights_m = ray.camera_height_m + slopes * best["implied_depth_m"]
    return Lifted(
        status=drop.status,
        slope=ray.slope,
        camera_height_m=ray.camera_height_m,
        implied_height_m=float(fallen_m(best["drop_time_s"])),
        time_s=tuple((frames / fps_hz).tolist()),
        height_m=tuple(heights_m.tolist()),
        depth_m=depth_m,
        **best,
    )


def _best_moment(
    slopes: Float[np.ndarray, " n"],
    time_s: Float[np.ndarray, " n"],
    frame: int,
    fps_hz: float,
    ray: DropRay,
    depth_range_m: tuple[float, float],
) -> dict[str, float]:
    moments_s = np.linspace(frame - 1, frame, MOMENTS) / fps_hz
    implied_m = np.asarray(ray.implied_depth_m(moments_s))  # [M], rising
    moments_s, implied_m = moments_s[implied_m > 0], implied_m[implied_m > 0]
    lifted_m = ray.camera_height_m + implied_m[:, None] * slopes  # [M, N]
    depths_m = np.linspace(*depth_range_m, DEPTHS)
    nearest = np.clip(implied_m, *depth_range_m)[:, None]
    depths_m = np.concatenate([np.tile(depths_m, (len(moments_s), 1)), nearest], axis=1)  # [M, D]
    fall_m = np.asarray(ray.height_m(depths_m))[:, :, None] - fallen_m(time_s)
    up_m = lifted_m[:, None] - np.maximum(fall_m, 0.0)  # [M, D, N]
    along_m = implied_m[:, None] - depths_m
    rms_m = np.sqrt((up_m**2).mean(axis=2) + along_m**2)
    rms_m[~np.isfinite(rms_m)] = np.inf
    m, d = np.unravel_index(int(np.argmin(rms_m)), rms_m.shape)
    return {
        "drop_time_s": float(moments_s[m]),
        "implied_depth_m": float(implied_m[m]),
        "nearest_depth_m": float(depths_m[m, d]),
        "rms_m": float(rms_m[m, d]),
    }


def plain(lifted: Lifted) -> dict[str, Any]:
    """JSON values; None for what is unknown."""
    values = asdict(lifted)
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in values.items()}


def summarise(lifted: Sequence[Lifted]) -> Mapping[str, Any]:
    """Quartiles of the distance over the clips that hit the floor; and how the others end."""
    rms_m = [clip.rms_m for clip in lifted if clip.status == "impact"]
    quartiles = np.quantile(rms_m, [0.25, 0.5, 0.75]).tolist() if rms_m else [None] * 3
    return {
        "clips": len(lifted),
        "n": len(rms_m),
        "statuses": dict(sorted(Counter(clip.status for clip in lifted).items())),
        "rms_m_quartiles": quartiles,
        "rms_m_mean": float(np.mean(rms_m)) if rms_m else None,
    }


def lift_models(subject: Subject, items: Sequence[StudyClip], num_samples: int) -> dict[str, Any]:
    """Trajectories of the true clips and of samples lifted to 3D, as in json."""
    sources = {"truth": (true_video, 1), subject.row: (subject.videos, num_samples)}
    lifted: dict[str, list[tuple[str, Lifted]]] = {name: [] for name in sources}
    with clip_progress() as progress:
        task = progress.add_task("lifting", total=len(items) * (1 + num_samples))
        for item in items:
            for name, (videos, count) in sources.items():
                for masks in sampled_masks(subject, item.clip, count, videos):
                    lifted[name].append((item.clip.name, _lift(item, masks, name)))
                    progress.advance(task)
    return {
        name: {
            "summary": summarise([clip for _, clip in found]),
            "clips": [{"image": image, **plain(clip)} for image, clip in found],
        }
        for name, found in lifted.items()
    }


def _lift(item: StudyClip, masks: np.ndarray, model: str) -> Lifted:
    low, high = item.study["depth_range_m"]
    return lift(
        masks,
        item.camera,
        item.clip.fps_hz,
        (low, high),
        slope=item.study["slope"],
        depth_m=item.study["depth_m"] if model == "truth" else None,
    )
