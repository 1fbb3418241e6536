"""Means with bootstrap intervals over clips and seeds, and differences between models.

Values that are not finite (a metric undefined for a clip) are left out, and that is said: ``n``
counts what a mean was taken over, and a ``RuntimeWarning`` names how many are missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit
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


def simultaneous_differences(
    models: Sequence[NDArray[np.floating]], seed: int, num_resamples: int = 2000
) -> dict[tuple[int, int], Interval]:
    """Means of ``a - b`` for all pairs ``a < b`` of models, with intervals that hold together.

    ``models`` are values ``[seeds, clips]`` of the same clips; models with equally many seeds are
    paired by them. With a probability of 95 % every interval of every pair covers its difference:
    each is the mean plus or minus ``q`` standard errors, where ``q`` is the 95 % quantile of the
    largest standardised difference over all pairs (max-t bootstrap over clips and seeds), taken as
    Student's for the number of clips. A value that one of the two lacks is left out of their pair;
    ``n`` counts the clips.
    """
    rng = np.random.default_rng(seed)
    clips = models[0].shape[1]
    drawn = rng.integers(clips, size=(num_resamples, clips))
    seeds = {
        count: rng.integers(count, size=(num_resamples, count))
        for count in sorted({len(values) for values in models})
    }
    resampled = [_seed_means(values, seeds[len(values)]) for values in models]
    own = [_seed_means(values, np.arange(len(values))[None])[0] for values in models]
    pairs = [(a, b) for a in range(len(models)) for b in range(a + 1, len(models))]
    means = np.array([_mean_where_finite(own[a] - own[b]) for a, b in pairs])
    draws = np.full((len(pairs), num_resamples), np.nan)
    for k, (a, b) in enumerate(pairs):
        apart = np.broadcast_to(resampled[a] - resampled[b], drawn.shape)
        draws[k] = _mean_where_finite(np.take_along_axis(apart, drawn, axis=1))
    counts = np.array([int(np.isfinite(own[a] - own[b]).sum()) for a, b in pairs])
    # the bootstrap's variance divides by n rather than by n - 1
    errors = _mean_where_finite((draws - means[:, None]) ** 2) ** 0.5
    errors *= np.sqrt(counts / np.maximum(counts - 1, 1))
    varied = errors > 1e-12 * np.maximum(1.0, np.abs(means))
    half = np.zeros(len(pairs))
    if varied.any():
        largest = np.abs(draws - means[:, None])[varied] / errors[varied, None]
        largest = largest[:, np.isfinite(largest).any(axis=0)]  # some draw a value of no clip
        q = np.nanquantile(np.nanmax(largest, axis=0), _COVERAGE)
        # the normal quantile as Student's: the standard errors are estimates
        half[varied] = stdtrit(counts[varied] - 1, ndtr(q)) * errors[varied]
    rows = zip(means, means - half, means + half, counts, strict=True)
    found = [Interval(float(mean), float(lo), float(hi), int(n)) for mean, lo, hi, n in rows]
    return dict(zip(pairs, found, strict=True))


def _seed_means(values: NDArray[np.floating], drawn: NDArray[np.integer]) -> NDArray[np.floating]:
    """Means ``[resamples, clips]`` over the seeds ``drawn [resamples, seeds]``; 1 seed: 1 row."""
    if len(values) == 1:
        return values
    return _mean_where_finite(np.moveaxis(values[drawn], 1, -1))


def _mean_where_finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(total / np.where(count, count, np.nan))


def _finite(values: Values) -> Float[np.ndarray, " n"]:
    vector = _vector(values)
    missing = count_missing(vector)
    if missing:
        text = f"{missing} of {len(vector)} values are not finite and left out of the mean"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return vector[np.isfinite(vector)]
