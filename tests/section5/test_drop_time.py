"""p(t | y): closed forms, sampling, frames; and the tests of section 5.2 on true samples."""

from functools import cache

import numpy as np
import pytest
from scipy import integrate, stats

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay
from pisa.section5.drop_study import correct, document, fit_image
from pisa.section5.drop_time import (
    DropTimes,
    calibration_curve,
    crps_s,
    exact_energy,
    exact_ks,
    holm,
    naive_ks,
    to_frames,
    two_sample_ks,
)
from pisa.types import GRAVITY_M_S2

FPS_HZ, NUM_FRAMES = 16.0, 16
TRUTH = DropTimes(DropRay(0.12, 0.5), (2.0, 18.0))
SHARES = TRUTH.frame_shares(FPS_HZ, NUM_FRAMES)


def draw(count: int, rng: np.random.Generator, truth: DropTimes = TRUTH) -> np.ndarray:
    return to_frames(truth.sample(count, rng), FPS_HZ, NUM_FRAMES)


@pytest.mark.parametrize("slope", [0.03, 0.12, 0.4, -0.02])
def test_density_distribution_and_quantiles_agree(slope):
    truth = DropTimes(DropRay(slope, 0.5), (2.0, 18.0))
    first, last = truth.bounds_s
    area, _ = integrate.quad(lambda t: float(truth.pdf(np.array([t]))[0]), first, last)
    assert area == pytest.approx(1.0, abs=1e-6)
    inside = np.linspace(first, last, 9)
    part, _ = integrate.quad(lambda t: float(truth.pdf(np.array([t]))[0]), first, inside[4])
    assert truth.cdf(inside)[4] == pytest.approx(part, abs=1e-6)
    assert truth.quantile(truth.cdf(inside)) == pytest.approx(inside)
    assert truth.cdf(np.array([first - 0.01, last + 0.01])).tolist() == [0, 1]
    assert truth.pdf(np.array([first - 0.01, last + 0.01])).tolist() == [0, 0]


def test_the_density_is_the_papers():
    t_s = np.array([0.6])
    expected = GRAVITY_M_S2 * t_s / ((18 - 2) * 0.12)
    assert TRUTH.pdf(t_s) == pytest.approx(expected)


def test_drops_from_uniform_depths_have_this_distribution():
    rng = np.random.default_rng(0)
    times_s = TRUTH.ray.drop_time_s(rng.uniform(2, 18, size=2000))
    assert stats.kstest(times_s, TRUTH.cdf).pvalue > 0.01
    assert stats.kstest(TRUTH.sample(2000, rng), TRUTH.cdf).pvalue > 0.01


def test_frames_count_what_is_later_than_the_clip():
    truth = DropTimes(DropRay(0.4, 0.5), (2.0, 18.0))  # up to 1.25 s, the clip ends at 0.94 s
    shares = truth.frame_shares(FPS_HZ, NUM_FRAMES)
    assert shares.sum() == pytest.approx(1.0) and len(shares) == NUM_FRAMES + 1
    frames = draw(20000, np.random.default_rng(1), truth)
    found = np.bincount(frames, minlength=NUM_FRAMES + 1) / len(frames)
    assert np.abs(found - shares).max() < 0.015
    assert shares[-1] > 0.3
    assert to_frames(np.array([0.5, 0.500001, 9.0]), 16, 16).tolist() == [8, 9, 16]


def test_rays_without_a_distribution_are_refused():
    with pytest.raises(PisaError, match="meets the floor"):
        DropTimes(DropRay(-0.1, 0.5), (2.0, 18.0))
    with pytest.raises(PisaError, match="level"):
        DropTimes(DropRay(0.0, 0.5), (2.0, 18.0))


@cache
def rejections(repeats: int = 200) -> dict[str, int]:
    """How many of so many sets of 128 draws of the truth each test rejects at 0.05."""
    rng = np.random.default_rng(2)
    rejected = dict.fromkeys(("exact", "energy", "two_sample", "naive"), 0)
    for _ in range(repeats):
        frames = draw(128, rng)
        rejected["exact"] += exact_ks(frames, SHARES, rng)[1] < 0.05
        rejected["energy"] += exact_energy(frames, SHARES, FPS_HZ, rng)[1] < 0.05
        rejected["two_sample"] += two_sample_ks(frames, draw(1000, rng)) < 0.05
        rejected["naive"] += naive_ks(frames, TRUTH, FPS_HZ) < 0.05
    return rejected


@pytest.mark.parametrize("test", ["exact", "energy"])
def test_true_samples_are_rejected_as_often_as_the_level_says(test):
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= rejections()[test] <= high


def test_the_naive_test_is_not_calibrated():
    """Frames taken for exact times: true samples are rejected far too often."""
    _, high = stats.binom.interval(0.999, 200, 0.05)
    assert rejections()["naive"] > 3 * high


def test_the_papers_two_sample_test_rejects_true_samples_too_seldom():
    assert rejections()["two_sample"] < rejections()["exact"]


def test_wrong_distributions_are_rejected():
    rng = np.random.default_rng(3)
    late = np.minimum(draw(128, rng) + 1, NUM_FRAMES)
    one_outcome = np.full(128, int(np.median(draw(128, rng))))
    for frames in (late, one_outcome):
        assert exact_ks(frames, SHARES, rng)[1] < 0.01
        assert exact_energy(frames, SHARES, FPS_HZ, rng)[1] < 0.01
        assert two_sample_ks(frames, draw(1000, rng)) < 0.05


def test_energy_distance_is_scipys():
    rng = np.random.default_rng(4)
    frames = draw(128, rng)
    ours, _ = exact_energy(frames, SHARES, FPS_HZ, rng)
    times_s = np.arange(NUM_FRAMES + 1) / FPS_HZ
    theirs = stats.energy_distance(frames / FPS_HZ, times_s, v_weights=SHARES)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_crps_is_its_definition():
    """E|X - t| - E|X - X'| / 2 over true t, by summing over all pairs."""
    frames = draw(40, np.random.default_rng(5))
    score, best = crps_s(frames, SHARES, FPS_HZ)
    every = np.arange(NUM_FRAMES + 1)
    miss = (np.abs(frames[:, None] - every) * SHARES).sum(axis=1).mean()
    spread = np.abs(frames[:, None] - frames).mean() / 2
    assert score == pytest.approx((miss - spread) / FPS_HZ)
    assert best == pytest.approx(
        (np.abs(every[:, None] - every) * np.outer(SHARES, SHARES)).sum() / 2 / FPS_HZ
    )
    assert score > best


def test_the_calibration_curve_is_the_diagonal_for_the_truth():
    levels = np.linspace(0, 1, 11)
    frames = draw(20000, np.random.default_rng(6))
    assert np.abs(calibration_curve(frames, SHARES, levels) - levels).max() < 0.02
    early = calibration_curve(np.maximum(frames - 2, 0), SHARES, levels)
    assert (early - levels)[1:-1].min() > 0.05


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_too_few_samples_are_one_sentence():
    with pytest.raises(PisaError, match=r"at least 20 samples of each image, not 5"):
        fit_image("a", draw(5, np.random.default_rng(7)), TRUTH, FPS_HZ, NUM_FRAMES)


def test_a_wrong_reading_that_truth_and_samples_share_is_no_fault():
    """All impacts read a frame late, and the same in the drops that they are compared with."""
    late = np.roll(SHARES, 1)
    assert SHARES[-1] == 0
    rng = np.random.default_rng(9)
    fits = [
        fit_image("a", draw(128, rng) + 1, TRUTH, FPS_HZ, NUM_FRAMES, read_shares=late, seed=i)
        for i in range(40)
    ]
    assert all(fit.p_ks < 0.05 for fit in fits)
    assert sum(fit.p_read is not None and fit.p_read < 0.05 for fit in fits) <= 6
    early = fit_image("a", draw(128, rng), TRUTH, FPS_HZ, NUM_FRAMES, read_shares=late)
    assert early.p_read is not None and early.p_read < 0.05
    summary = document(correct(fits), FPS_HZ, NUM_FRAMES)["summary"]
    assert summary["passed"]["p_ks"] == 0 and summary["passed"]["p_read"] >= 34


def test_a_study_of_true_samples_passes_and_one_of_a_fixed_time_does_not():
    rng = np.random.default_rng(8)
    rays = [DropTimes(DropRay(s, 0.5), (2.0, 18.0)) for s in np.linspace(0.05, 0.17, 8)]
    good = [
        fit_image(f"{i}", draw(128, rng, ray), ray, FPS_HZ, NUM_FRAMES, seed=i)
        for i, ray in enumerate(rays)
    ]
    summary = document(correct(good), FPS_HZ, NUM_FRAMES)["summary"]
    assert summary["passed"]["p_ks_holm"] == 8 and summary["passed"]["p_ks"] >= 6
    assert summary["mean_crps_s"] < 1.05 * summary["mean_crps_best_s"]
    bad = [
        fit_image(f"{i}", np.full(128, 9), ray, FPS_HZ, NUM_FRAMES, seed=i)
        for i, ray in enumerate(rays)
    ]
    assert document(correct(bad), FPS_HZ, NUM_FRAMES)["summary"]["passed"]["p_ks_holm"] == 0
