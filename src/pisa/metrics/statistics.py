"""Means with bootstrap intervals over clips, and paired differences between two models.

Values that are not finite (a metric undefined for a clip) are left out, and that is said: ``n``
counts what a mean was taken over, and a ``RuntimeWarning`` names how many are missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.ops.masks import to_numpy

Values = Sequence[float] | np.ndarray | Tensor
_COVERAGE = 0.95


class Interval(NamedTuple):
    """A mean, its 95 % percentile-bootstrap interval, and how many values it was taken over.

    Mean and bounds are NaN when ``n`` is 0; with ``n`` of 1 the bounds equal the mean and say
    nothing.
    """

    mean: float
    lo: float
    hi: float
    n: int


def bootstrap_ci(values: Values, seed: int, num_resamples: int = 2000) -> Interval:
    """Mean over the finite values, resampled with replacement; equal seeds give equal intervals.

    Raises ``PisaError`` for less than one resample.
    """
    if num_resamples < 1:
        raise PisaError(f"num_resamples must be at least 1, not {num_resamples}")
    finite = _finite(values)
    if len(finite) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(finite), size=(num_resamples, len(finite)))
    means = finite[draws].mean(axis=1)
    lo, hi = np.quantile(means, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return Interval(float(finite.mean()), float(lo), float(hi), len(finite))


def paired_difference(a: Values, b: Values, seed: int = 0, num_resamples: int = 2000) -> Interval:
    """Mean of ``a - b`` over the same clips in the same order; a clip counts if both are finite.

    Raises ``PisaError`` where they differ in number.
    """
    first, second = _vector(a), _vector(b)
    if len(first) != len(second):
        raise PisaError(f"paired values differ in number: {len(first)} and {len(second)}")
    return bootstrap_ci(first - second, seed, num_resamples)


def count_missing(values: Values) -> int:
    """How many values are not finite."""
    return int(np.count_nonzero(~np.isfinite(_vector(values))))


def _vector(values: Values) -> Float[np.ndarray, " n"]:
    if not isinstance(values, Tensor):
        return np.asarray(values, dtype=np.float64).reshape(-1)
    return to_numpy(values).astype(np.float64).reshape(-1)


def crossed_ci(values: np.ndarray, seed: int, num_resamples: int = 2000) -> Interval:
    """Mean of ``[seeds, clips]``; each bootstrap resample draws seeds and clips with replacement.

    The same clips are scored for every training seed. NaN values are left out; ``n`` counts the
    rest. With one seed the interval is over clips alone.
    """
    rng = np.random.default_rng(seed)
    rows, columns = values.shape
    if not np.isfinite(values).any():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    means = np.full(num_resamples, np.nan)
    for i in range(num_resamples):
        drawn = values[rng.integers(rows, size=rows)][:, rng.integers(columns, size=columns)]
        if np.isfinite(drawn).any():
            means[i] = np.nanmean(drawn)
    low, high = np.nanquantile(means, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return Interval(
        float(np.nanmean(values)), float(low), float(high), int(np.isfinite(values).sum())
    )


def _finite(values: Values) -> Float[np.ndarray, " n"]:
    vector = _vector(values)
    missing = count_missing(vector)
    if missing:
        text = f"{missing} of {len(vector)} values are not finite and left out of the mean"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return vector[np.isfinite(vector)]
