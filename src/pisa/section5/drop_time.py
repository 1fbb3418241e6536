"""The distribution of drop times behind one first frame (paper Eq. 4, Appendix E).

The object's lowest point lies on a ray (``pisa.ops.drop_ray``): ``Y = h + beta Z`` at a depth ``Z``
that is uniform. So the height is uniform between its ends, and as ``Y = g t^2 / 2`` the density is
``p(t) = g t / (Y_high - Y_low)``, which is Eq. 4 with ``|beta|``: the paper's form is negative for
objects below the camera.

A clip shows drop times as frames: the impact is in ``((F - 1) / fps, F / fps]``. What is later than
the last frame of the clip is *censored*: one more category, numbered ``num_frames``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay, drop_time_s, fallen_m
from pisa.types import GRAVITY_M_S2


@dataclass(frozen=True)
class DropTimes:
    """``p(t | y)`` of one ray over a range of depths (paper: 2 to 18 m).

    Raises ``PisaError`` for a ray that is level (one drop time only) or that meets the floor within
    the depths.
    """

    ray: DropRay
    depth_m: tuple[float, float]

    def __post_init__(self) -> None:
        low, high = self.heights_m
        if low < 0:
            raise PisaError(
                f"the ray of slope {self.ray.slope:.3f} meets the floor before "
                f"{self.depth_m[1]:g} m, so not every depth has a drop time"
            )
        if high - low < 1e-9:
            raise PisaError("a level ray has one drop time, not a distribution of them")

    @property
    def heights_m(self) -> tuple[float, float]:
        """The lowest and the highest height that the object may have."""
        ends = [float(self.ray.height_m(z)) for z in self.depth_m]
        return min(ends), max(ends)

    @property
    def bounds_s(self) -> tuple[float, float]:
        """``t_min`` and ``t_max``."""
        low, high = self.heights_m
        return float(drop_time_s(low)), float(drop_time_s(high))

    def pdf(self, time_s: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Density in 1/s (Eq. 4)."""
        low, high = self.heights_m
        first, last = self.bounds_s
        inside = (time_s >= first) & (time_s <= last)
        return np.where(inside, GRAVITY_M_S2 * time_s / (high - low), 0.0)

    def cdf(self, time_s: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of drop times up to ``time_s``."""
        low, high = self.heights_m
        height_m = fallen_m(np.maximum(time_s, 0.0))
        return np.clip((height_m - low) / (high - low), 0.0, 1.0)

    def quantile(self, level: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Inverse of ``cdf`` for levels in [0, 1]."""
        low, high = self.heights_m
        return np.asarray(drop_time_s(low + level * (high - low)))

    def sample(self, count: int, rng: Generator) -> Float[np.ndarray, " n"]:
        """Drop times in seconds."""
        return self.quantile(rng.uniform(size=count))

    def frame_shares(self, fps_hz: float, num_frames: int) -> Float[np.ndarray, " k"]:
        """Probability of every impact frame ``0 ... num_frames``; the last is "censored"."""
        edges = self.cdf(np.arange(num_frames) / fps_hz)
        return np.diff(edges, prepend=0.0, append=1.0)


def to_frames(
    time_s: Float[np.ndarray, " n"], fps_hz: float, num_frames: int
) -> Int[np.ndarray, " n"]:
    """The impact frame of drop times: the first frame at or after them, at most ``num_frames``."""
    frame = np.ceil(np.round(time_s * fps_hz, 9)).astype(np.int64)
    return np.clip(frame, 0, num_frames)
