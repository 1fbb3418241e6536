"""Bootstrap intervals and paired differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pisa.errors import PisaError
from pisa.metrics import bootstrap_ci, paired_difference
from pisa.metrics.statistics import count_missing


def test_interval_is_reproducible_and_holds_the_mean() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 200)
    first, second = bootstrap_ci(values, seed=7), bootstrap_ci(values, seed=7)
    assert first == second
    assert first.lo < first.mean < first.hi
    assert first.mean == values.mean() and first.n == 200
    assert first.hi - first.lo == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.1)
    assert bootstrap_ci(values, seed=8) != first


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_ci(rng.normal(0, 1, 40), seed=i, num_resamples=400) for i in range(200)]
    covered = np.mean([ci.lo <= 0 <= ci.hi for ci in intervals])
    assert 0.88 <= covered <= 0.99


def test_nan_is_counted_not_averaged() -> None:
    with pytest.warns(RuntimeWarning, match="1 of 3"):
        interval = bootstrap_ci([1.0, float("nan"), 3.0], seed=0)
    assert (interval.mean, interval.n) == (2.0, 2)
    assert count_missing([1.0, float("nan"), float("inf")]) == 2


def test_no_values_give_nan_and_a_count_of_zero() -> None:
    mean, lo, hi, n = bootstrap_ci([], seed=0)
    assert n == 0 and all(map(math.isnan, (mean, lo, hi)))


def test_one_value_is_its_own_interval() -> None:
    assert bootstrap_ci(torch.tensor([4.0]), seed=0) == (4.0, 4.0, 4.0, 1)


def test_paired_differences_cancel_what_clips_share() -> None:
    rng = np.random.default_rng(1)
    clips = rng.normal(0, 10, 100)
    a, b = clips + 0.5 + rng.normal(0, 0.1, 100), clips
    interval = paired_difference(a, b)
    assert interval.lo > 0.4 and interval.hi < 0.6 and interval.n == 100


def test_pairs_need_both_values() -> None:
    with pytest.warns(RuntimeWarning, match="2 of 3"):
        interval = paired_difference([1, float("nan"), 5], [0, 1, float("nan")])
    assert (interval.mean, interval.n) == (1.0, 1)
    with pytest.raises(PisaError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2])


def test_zero_resamples_are_refused() -> None:
    with pytest.raises(PisaError, match="num_resamples"):
        bootstrap_ci([1.0], seed=0, num_resamples=0)
