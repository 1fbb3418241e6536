"""Attacks on a true clip score worse under ``strict``, the more so the stronger they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pisa.metrics import evaluate_pair

SIZE, FRAMES, RADIUS, TOP, FLOOR = 64, 24, 5, 8, 50
Attack = Callable[[float], np.ndarray]


def _height_px(frame: float) -> float:
    return min(TOP + 0.15 * frame**2, FLOOR)


def _disc(x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2


def _clip(*, slower: float = 1.0, until: int = FRAMES) -> np.ndarray:
    """A disc that falls to the floor and rests; frozen from frame ``until`` on."""
    return np.stack([_disc(32, _height_px(min(t, until) * slower)) for t in range(FRAMES)])


def _last(strength: float) -> int:
    """First attacked frame: strength 1 leaves only frame 0 untouched."""
    return FRAMES - round(strength * (FRAMES - 1))


def _vanish(strength: float) -> np.ndarray:
    masks = _clip()
    masks[_last(strength) :] = False
    return masks


def _freeze(strength: float) -> np.ndarray:
    return _clip(until=round((1 - strength) * 17))  # the floor is reached in frame 17


def _duplicate(strength: float) -> np.ndarray:
    masks = _clip()
    for t in range(_last(strength), FRAMES):
        masks[t] |= _disc(12, _height_px(t)) | _disc(52, _height_px(t))  # symmetric: equal centroid
    return masks


def _split(strength: float) -> np.ndarray:
    masks, half = _clip(), round(8 * strength)
    return np.roll(masks * (np.arange(SIZE) < 32), -half, axis=2) | np.roll(
        masks * (np.arange(SIZE) >= 32), half, axis=2
    )


def _teleport(strength: float) -> np.ndarray:
    masks = _clip()
    masks[FRAMES // 2 :] = np.roll(masks[FRAMES // 2 :], round(24 * strength), axis=2)
    return masks


def _hover(strength: float) -> np.ndarray:
    return _clip(slower=1 - strength)


ATTACKS = [_vanish, _freeze, _duplicate, _split, _teleport, _hover]
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def _losses(masks: np.ndarray, protocol: str) -> np.ndarray:
    """l2, Chamfer and 1 - IoU: lower is better in each."""
    result = evaluate_pair(_clip(), masks, 16, 16, protocol=protocol)
    return np.array([result["l2"], result["chamfer"], 1 - result["iou"]])


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_metric_is_worse_and_monotone(attack: Attack) -> None:
    losses = np.array([_losses(masks, "strict") for masks in map(attack, (0.0, *STRENGTHS))])
    np.testing.assert_array_equal(losses[0], 0.0)
    assert (losses[1:] > 0).all()
    steps = np.diff(losses, axis=0)
    assert (steps >= -1e-12).all()
    assert (steps > 0).any(axis=1).all()


def test_paper_lets_vanishing_and_mirrored_copies_pass() -> None:
    assert _losses(_vanish(1.0), "paper")[:2].tolist() == [0.0, 0.0]
    assert _losses(_duplicate(1.0), "paper")[0] == pytest.approx(0.0, abs=1e-12)


def test_a_copy_at_the_right_place_does_not_help() -> None:
    misplaced = np.roll(_clip(), 20, axis=2)
    alone, both = (_losses(masks, "strict") for masks in (misplaced, misplaced | _clip()))
    assert (both >= alone).all()


def test_specks_cost_little() -> None:
    masks = _clip()
    masks[:, 60, 60] = True
    assert (_losses(masks, "strict") < 0.05).all()
    assert (_losses(masks, "strict") > 0).all()


def test_an_occluder_that_cuts_both_clips_costs_nothing() -> None:
    masks = _clip()
    masks[:, :, 32] = False
    assert evaluate_pair(masks, masks, 16, 16, protocol="strict")["l2"] == 0.0


def _frames(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, mask])


def _split_rate(truth: np.ndarray, generated: np.ndarray) -> float:
    scores = evaluate_pair(_frames(truth), _frames(generated), 16, 16, protocol="strict")
    return float(scores["split_rate"])


def test_pieces_that_each_grow_from_a_piece_of_the_truth_are_no_split() -> None:
    truth = _disc(32, 32)
    truth[32, [20, 44]] = True  # two pixels beside it, too small to count
    grown = _disc(32, 32)
    grown[29:36, 17:24] = grown[29:36, 41:48] = True
    assert _split_rate(truth, grown) == 0.0


def test_two_pieces_over_one_of_the_truth_are_a_split() -> None:
    truth, halves = _disc(32, 32), _disc(32, 32)
    halves[:, 32] = False
    assert _split_rate(truth, halves) == 1.0
    truth[5, 5] = True  # a piece that neither half overlaps
    assert _split_rate(truth, halves) == 1.0
