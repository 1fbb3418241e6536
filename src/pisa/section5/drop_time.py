"""The distribution of drop times behind one first frame (paper Eq. 4, Appendix E).

The object's lowest point lies on a ray (``pisa.ops.drop_ray``): ``Y = h + beta Z`` at a depth ``Z``
that is uniform. So the height is uniform between its ends, and as ``Y = g t^2 / 2`` the density is
``p(t) = g t / (Y_high - Y_low)``, which is Eq. 4 with ``|beta|``: the paper's form is negative for
objects below the camera.

A clip shows drop times as frames: the impact is in ``((F - 1) / fps, F / fps]``. What is later than
the last frame of the clip is *censored*: one more category, numbered ``num_frames``.

Do sampled impact frames follow the truth, the share of each frame? Tests and distances:

* ``two_sample_ks``: the paper's test, against 1000 draws of the truth in frames. SciPy's p-value is
  for continuous data; with the ties of frames it is too large, so that too few true sets fail.
* ``naive_ks``: frames taken for exact times, against the continuous ``p(t | y)``. Rejects nearly
  every true set: the quantisation itself is the misfit that it sees.
* ``exact_ks``: the same distance, with the p-value from draws of the same number from the same
  frame shares (Monte Carlo). Calibrated, and the one to rely on.
* ``exact_energy``: likewise with the energy distance, which weighs the whole distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator
from scipy import stats

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay, drop_time_s, fallen_m
from pisa.types import GRAVITY_M_S2

MIN_SAMPLES = 20
TRUTH_DRAWS = 1000  # paper section 5.2
RESAMPLES = 1999
_TIE = 1e-12

Frames = Int[np.ndarray, " n"]
Shares = Float[np.ndarray, " k"]


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


def require_samples(count: int, setting: str = "source.num_samples") -> None:
    """Raises ``PisaError`` when there are too few samples of one image for any of the tests."""
    if count < MIN_SAMPLES:
        raise PisaError(
            f"the tests of drop times need at least {MIN_SAMPLES} samples of each image, not "
            f"{count}: raise {setting}"
        )


def two_sample_ks(frames: Frames, truth: Frames) -> float:
    """p-value of the paper's test: sampled impact frames against drawn ones."""
    require_samples(len(frames))
    return float(stats.ks_2samp(frames, truth).pvalue)


def naive_ks(frames: Frames, truth: DropTimes, fps_hz: float) -> float:
    """p-value of a one-sample test that takes the middle of the frame for the drop time."""
    require_samples(len(frames))
    return float(stats.kstest((frames - 0.5) / fps_hz, truth.cdf).pvalue)


def exact_ks(frames: Frames, shares: Shares, rng: Generator) -> tuple[float, float]:
    """Largest difference of the distribution functions, and its Monte-Carlo p-value."""
    return _exact(frames, shares, lambda gaps: np.abs(gaps).max(axis=-1), rng)


def exact_energy(
    frames: Frames, shares: Shares, fps_hz: float, rng: Generator
) -> tuple[float, float]:
    """Energy distance, and its Monte-Carlo p-value.

    The distance is SciPy's ``energy_distance`` of drop times, in the square root of seconds.
    """
    return _exact(frames, shares, lambda gaps: np.sqrt(2 * (gaps**2).sum(axis=-1) / fps_hz), rng)


def crps_s(frames: Frames, shares: Shares, fps_hz: float) -> tuple[float, float]:
    """Mean continuous ranked probability score over true drop times, in seconds.

    The first is that of the samples as a forecast, the second that of the truth itself, which no
    forecast beats on average.
    """
    truth = np.cumsum(shares)
    best = float((truth * (1 - truth)).sum() / fps_hz)
    gaps = _empirical(_counts(frames, len(shares))) - truth
    return best + float((gaps**2).sum() / fps_hz), best


def calibration_curve(
    frames: Frames, shares: Shares, levels: Float[np.ndarray, " l"]
) -> Float[np.ndarray, " l"]:
    """Share of samples below each quantile level of the truth: the diagonal where they agree.

    Frames have a whole interval of levels, and a sample counts by the part of it that lies below
    (the non-randomised probability integral transform; Czado, Gneiting and Held 2009).
    """
    upper = np.cumsum(shares)[frames]
    width = np.maximum(shares[frames], _TIE)
    below = (levels[:, None] - (upper - shares[frames])) / width
    return np.clip(below, 0.0, 1.0).mean(axis=1)


def holm(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """p-values adjusted for all of them being tested (Holm 1979)."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _exact(
    frames: Frames,
    shares: Shares,
    distance: Callable[[np.ndarray], np.ndarray],
    rng: Generator,
) -> tuple[float, float]:
    require_samples(len(frames))
    truth, count = np.cumsum(shares), len(frames)

    def draw(size: tuple[int, ...]) -> np.ndarray:
        return rng.multinomial(count, shares / shares.sum(), size=size[0]).astype(float)

    def statistic(counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.round(distance(_empirical(counts) - truth), 12)  # equal ones count as equal

    observed = _counts(frames, len(shares)).astype(float)
    options: dict[str, Any] = {"vectorized": True, "n_resamples": RESAMPLES, "batch": RESAMPLES}
    result = stats.monte_carlo_test(observed, draw, statistic, alternative="greater", **options)
    return float(result.statistic), float(result.pvalue)


def _counts(frames: Frames, num_bins: int) -> Int[np.ndarray, " k"]:
    return np.bincount(frames, minlength=num_bins)


def _empirical(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts, axis=-1) / counts.sum(axis=-1, keepdims=True)
