"""Differences of several models: corrected for their number, over clips and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from pisa.metrics.statistics import paired_difference, simultaneous_differences


def scores(*offsets: float, seed: int = 0, clips: int = 60) -> list[np.ndarray]:
    """One seed of each model: a shared difficulty of each clip, noise, and the model's offset."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=clips)
    return [(difficulty + rng.normal(size=clips) + offset)[None] for offset in offsets]


def off_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def test_equal_models_are_rarely_told_apart_however_many_there_are() -> None:
    """Some of the 15 pairs differ in about 5 % of the trials; without correction, in a third."""
    corrected = single = 0
    for trial in range(100):
        models = scores(*[0.0] * 6, seed=trial)
        found = simultaneous_differences(models, seed=10_000 + trial, num_resamples=300)
        corrected += any(off_zero(i.lo, i.hi) for i in found.values())
        pairs = [paired_difference(models[a][0], models[b][0], 0, 300) for a, b in found]
        single += any(off_zero(i.lo, i.hi) for i in pairs)
    assert corrected <= 12 < 30 <= single


def test_a_large_difference_is_found_among_equal_models() -> None:
    found = simultaneous_differences(scores(0.0, 0.0, 1.5), seed=0)
    assert not off_zero(found[0, 1].lo, found[0, 1].hi)
    assert found[0, 2].hi < 0 and found[1, 2].hi < 0
    assert found[0, 2].mean == pytest.approx(-1.5, abs=0.5)


def test_two_models_have_the_interval_of_the_paired_bootstrap() -> None:
    a, b = scores(0.0, 0.3)
    (found,) = simultaneous_differences([a, b], seed=0).values()
    alone = paired_difference(a[0], b[0])
    assert found.mean == pytest.approx(alone.mean)
    assert found.hi - found.lo == pytest.approx(alone.hi - alone.lo, rel=0.1)
    assert found.n == 60


def test_equal_and_constantly_different_scores_have_no_width() -> None:
    one = scores(0.0)[0]
    found = simultaneous_differences([one, one, one + 0.25], seed=0)
    assert found[0, 1][:3] == (0.0, 0.0, 0.0)
    assert found[0, 2][:3] == pytest.approx((-0.25, -0.25, -0.25))


def test_a_spread_over_seeds_widens_the_interval() -> None:
    model, other = scores(0.0, 0.0)
    seeds = np.concatenate([model + offset for offset in (-1.5, 0.5, 2.5)])
    found = simultaneous_differences([seeds, other], seed=0)[0, 1]
    mean_only = simultaneous_differences([seeds.mean(axis=0)[None], other], seed=0)[0, 1]
    assert found.mean == pytest.approx(mean_only.mean)
    assert found.hi - found.lo > 3 * (mean_only.hi - mean_only.lo)


def test_a_clip_that_one_model_lacks_is_left_out_of_its_pairs() -> None:
    a, b, c = scores(0.0, 0.3, 0.6)
    b[0, :20] = np.nan
    found = simultaneous_differences([a, b, c], seed=0)
    assert [found[pair].n for pair in ((0, 1), (0, 2), (1, 2))] == [40, 60, 40]
    assert found[0, 1].mean == pytest.approx((a[0, 20:] - b[0, 20:]).mean())


@pytest.mark.filterwarnings("error")
def test_a_value_that_few_clips_have_needs_no_warning() -> None:
    """Some resamples draw none of these clips."""
    a, b = scores(0.0, 0.3)
    a[0, 2:] = np.nan
    found = simultaneous_differences([a, b], seed=0)[0, 1]
    assert found.n == 2 and np.isfinite(found[:3]).all()
