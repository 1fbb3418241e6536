"""``strict`` ranks every attack at every strength below the untouched clip, monotonically."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pisa.ops.masks import MaskError
from pisa.simulation.fast import FastSimulator
from pisa.simulation.scene import Prior
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS, LOST_TRACKER, losses

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ALL = ATTACKS | EXTRA_ATTACKS | LOST_TRACKER


def _clip(bounce: float) -> np.ndarray:
    """``[T, 2, H, W]``: a disc at rest on the right, and one that falls, bounces and rests."""
    rows, columns = np.mgrid[:64, :64]

    def disc(x: float, y: float) -> np.ndarray:
        return (columns - x) ** 2 + (rows - y) ** 2 <= 5**2

    heights, y, speed = [], 12.0, 0.0
    for _ in range(32):
        heights.append(y)
        speed += 0.5
        y += speed
        if y > 48:
            y, speed = 48.0, -bounce * speed
    return np.stack([np.stack([disc(54, 48), disc(20, h)]) for h in heights])


@pytest.mark.parametrize("bounce", [0.0, 0.3])
@pytest.mark.parametrize("name", ALL)
def test_strict_ranks_every_attack_below_the_truth_and_monotonically(
    name: str, bounce: float
) -> None:
    masks = _clip(bounce)
    scores = [losses(masks, ALL[name](masks, s), 16, "strict") for s in STRENGTHS]
    table = np.array([list(score.values()) for score in scores])
    np.testing.assert_allclose(table[0], 0.0, atol=1e-12)
    assert (np.diff(table, axis=0) > 0).all()


@cache
def _simulated(seed: int) -> np.ndarray:
    """``[T, N, H, W]`` of a simulated clip, where objects turn, bounce, hide and leave."""
    clip, _ = FastSimulator(Prior(size_m=None, span_px=(9.0, 20.0))).make_clip(seed, "test", "x")
    return clip.masks.numpy().swapaxes(0, 1)


def _check(name: str, masks: np.ndarray) -> None:
    try:
        tracks = [ALL[name](masks, s) for s in STRENGTHS]
    except MaskError:
        assert name in ("swap", "bridge", "rise", "together")  # one object only; no room
        return
    table = np.array([list(losses(masks, t, 16, "strict").values()) for t in tracks])
    np.testing.assert_allclose(table[0], 0.0, atol=1e-12)
    assert (table[1:] > 0).all()
    assert (np.diff(table, axis=0) >= -1e-9).all()


@pytest.mark.parametrize("name", ALL)
def test_so_it_does_on_simulated_clips(name: str) -> None:
    for seed in (8_100_000, 8_100_001):
        _check(name, _simulated(seed))


@pytest.mark.timeout(3600)
@pytest.mark.slow  # 40 clips for each attack: minutes
@pytest.mark.parametrize("name", ALL)
def test_so_it_does_on_many_simulated_clips(name: str) -> None:
    for seed in range(8_100_000, 8_100_040):
        _check(name, _simulated(seed))


@pytest.mark.parametrize("name", ["explode", "flood", "half", "vanish"])
def test_a_lost_tracker_never_beats_the_frozen_frame_under_strict(name: str) -> None:
    for masks in (_clip(0.0), _clip(0.3), _simulated(8_100_000), _simulated(8_100_001)):
        lost, frozen = (losses(masks, ALL[a](masks, 1.0), 16, "strict") for a in (name, "freeze"))
        assert all(lost[metric] > frozen[metric] for metric in lost)


def test_a_whole_picture_beats_the_frozen_frame_in_chamfer_under_official_and_paper() -> None:
    masks = _clip(0.0)
    for protocol in ("official", "paper"):
        lost, frozen = (
            losses(masks, ALL[name](masks, 1.0), 16, protocol) for name in ("flood", "freeze")
        )
        assert lost["chamfer"] < frozen["chamfer"]


def test_growth_below_twice_the_true_size_costs_no_penalty() -> None:
    """An object that comes nearer is scored by its distances alone."""
    masks = _clip(0.0)
    grown = ALL["grow"](masks, 0.1)
    strict, paper = (losses(masks, grown, 16, p) for p in ("strict", "paper"))
    assert np.count_nonzero(grown[1]) < 2 * np.count_nonzero(masks[1, -1])
    assert strict["chamfer"] == pytest.approx(paper["chamfer"])


def test_official_and_paper_do_not_see_vanishing_in_l2_and_chamfer() -> None:
    masks = _clip(0.3)
    for protocol in ("official", "paper"):
        score = losses(masks, ALL["vanish"](masks, 1.0), 16, protocol)
        assert (score["l2"], score["chamfer"]) == (0.0, 0.0)


def test_official_and_paper_do_not_see_a_video_that_ends_early() -> None:
    masks = _clip(0.3)
    for protocol in ("official", "paper"):
        assert set(losses(masks, ALL["truncate"](masks, 1.0), 16, protocol).values()) == {0.0}


def test_swap_needs_a_second_object() -> None:
    with pytest.raises(MaskError, match="two objects"):
        ATTACKS["swap"](_clip(0.0)[:, 1:], 0.5)
