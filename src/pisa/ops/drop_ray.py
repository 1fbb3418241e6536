"""The camera ray through the bottom of a dropping object (paper Appendices D, E, G).

A level camera at height ``h`` over the floor sees the point of height ``Y`` and depth ``Z`` (along
the view axis, from the camera's centre) in the pixel row whose slope is ``beta = (Y - h) / Z``. One
row therefore stands for every point ``Y = h + beta Z``. The paper measures ``Z`` from the image
plane, one focal length ``f`` in front of the centre, and writes ``Y = y + beta Z`` with
``y = h + beta f``: the height in metres above the floor at which the ray pierces the image plane.
Both are the same line. Here depths are those of the centre; ``image_height_m`` is the paper's
``y``. docs/reference/geometry.md has the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

from pisa.types import GRAVITY_M_S2, Camera

Numbers: TypeAlias = float | np.ndarray


def bottom_row_px(mask: Bool[np.ndarray, "h w"]) -> float:
    """Where an object ends below, in rows whose centres are whole numbers; NaN for an empty mask.

    Half a pixel below the centre of the last row: on average the true edge, for renderers that
    sample at pixel centres or around them, as both backends do. The paper (Appendix D) takes the
    row just below, half a pixel more.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    return float(rows[-1]) + 0.5 if rows.size else float("nan")


def slope_of_row(row_px: Numbers, camera: Camera) -> Numbers:
    """Slope ``beta`` (metres up per metre of depth) of the ray through a pixel row."""
    return ((camera.height - 1) / 2 - row_px) / camera.focal_px


def row_of_slope(slope: Numbers, camera: Camera) -> Numbers:
    """Inverse of ``slope_of_row``."""
    return (camera.height - 1) / 2 - camera.focal_px * slope


@dataclass(frozen=True)
class DropRay:
    """Heights and depths of one image point, and the falls that begin there.

    ``slope`` is ``beta``; ``camera_height_m`` is ``h``; ``focal_m`` only enters
    ``image_height_m``. Methods take and return numbers or arrays.
    """

    slope: float
    camera_height_m: float
    focal_m: float = 0.035

    @classmethod
    def through_row(cls, row_px: float, camera: Camera) -> DropRay:
        """The ray through a pixel row of a camera that stands over the floor ``z = 0``."""
        slope = float(slope_of_row(row_px, camera))
        return cls(slope, camera.position_m[2], camera.focal_mm / 1000)

    @property
    def image_height_m(self) -> float:
        """The paper's ``y``: where the ray pierces the image plane, above the floor."""
        return self.camera_height_m + self.slope * self.focal_m

    def height_m(self, depth_m: Numbers) -> Numbers:
        """Height above the floor at a depth."""
        return self.camera_height_m + self.slope * depth_m

    def depth_m(self, height_m: Numbers) -> Numbers:
        """Depth at a height; infinite or NaN for a level ray."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(np.subtract(height_m, self.camera_height_m), self.slope)

    def drop_time_s(self, depth_m: Numbers) -> Numbers:
        """How long the fall to the floor takes from that depth (Appendix E)."""
        return drop_time_s(self.height_m(depth_m))

    def implied_depth_m(self, time_s: Numbers) -> Numbers:
        """The depth from which the fall takes that long (Appendix G)."""
        return self.depth_m(fallen_m(time_s))

    def row_px(self, time_s: Numbers, depth_m: Numbers, camera: Camera) -> Numbers:
        """Pixel row of the bottom at a time of the fall (Eq. 3, with the camera's height)."""
        height_m = self.height_m(depth_m) - fallen_m(time_s)
        return row_of_slope((height_m - self.camera_height_m) / depth_m, camera)


def height_of_row(row_px: Numbers, depth_m: Numbers, camera: Camera) -> Numbers:
    """Height above the floor that a pixel row has at a depth."""
    return camera.position_m[2] + slope_of_row(row_px, camera) * depth_m


def fallen_m(time_s: Numbers) -> Numbers:
    """Distance fallen from rest."""
    return 0.5 * GRAVITY_M_S2 * np.square(time_s)


def drop_time_s(height_m: Numbers) -> Numbers:
    """Time to fall from rest; NaN from below the floor."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(2 * np.asarray(height_m, dtype=float) / GRAVITY_M_S2)
