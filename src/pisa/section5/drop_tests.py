"""Do sampled drop times follow ``p(t | y)``? Tests and distances on impact frames (section 5.2).

Samples are impact frames ``0 ... K - 1`` (the last: censored), the truth is the share of each.

* ``two_sample_ks``: the paper's test, against 1000 draws of the truth in frames. SciPy's p-value is
  for continuous data; with the ties of frames it is too large, so that too few true sets fail.
* ``naive_ks``: frames taken for exact times, against the continuous ``p(t | y)``. Rejects nearly
  every true set: the quantisation itself is the misfit that it sees.
* ``exact_ks``: the same distance, with the p-value from draws of the same number from the same
  frame shares (Monte Carlo). Calibrated, and the one to go by.
* ``exact_energy``: likewise with the energy distance, which weighs the whole distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator
from scipy import stats

from pisa.errors import PisaError
from pisa.section5.drop_time import DropTimes

MIN_SAMPLES = 20
TRUTH_DRAWS = 1000  # paper section 5.2
RESAMPLES = 1999
_TIE = 1e-12

Frames = Int[np.ndarray, " n"]
Shares = Float[np.ndarray, " k"]


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

    Of the samples as a forecast, and of the truth itself (which nothing beats on average).
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
