"""``strict`` charges time that a generated clip owes, and what it takes for the frame rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pisa.metrics import evaluate_pair
from pisa.metrics.alignment import num_frames_due
from pisa.metrics.strict import spread_l2_px


def _fall(num_frames: int, fps_hz: float, *, seconds_per_second: float = 1.0) -> np.ndarray:
    """A square that falls 40 px in 0.7 s and rests."""
    masks = np.zeros((num_frames, 64, 64), dtype=bool)
    for t, mask in enumerate(masks):
        y = 4 + round(40 * min(1, t * seconds_per_second / fps_hz / 0.7) ** 2)
        mask[y : y + 12, 20:32] = True
    return masks


def _strict(gt: np.ndarray, gen: np.ndarray, gt_fps: float, gen_fps: float) -> dict:
    return evaluate_pair(gt, gen, gt_fps, gen_fps, protocol="strict")


@pytest.mark.parametrize("kept", [1, 8, 31, 32])
def test_missing_frames_cost_the_worst_case(kept: int) -> None:
    result = _strict(_fall(32, 16), _fall(kept, 16), 16, 16)
    lost = (32 - kept) / 32
    assert [result[m] for m in ("l2", "chamfer", "iou")] == pytest.approx(
        [lost, 2 * lost, 1 - lost]
    )
    assert (result["num_frames_uncovered"], result["num_frames_compared"]) == (32 - kept, kept)
    assert result["miss_rate"] == pytest.approx(lost)
    official = evaluate_pair(_fall(32, 16), _fall(kept, 16), 16, 16)
    assert (official["l2"], official["iou"]) == (0, 1)  # by design: what the release computes


@pytest.mark.parametrize("gen_fps", [8, 10, 16, 23.976, 24, 29.97, 60, 120])
@pytest.mark.parametrize("gt_fps", [16, 25, 120])
@pytest.mark.parametrize("gt_s", [1, 1.9, 3.3])
def test_a_whole_clip_owes_nothing(gen_fps: float, gt_fps: float, gt_s: float) -> None:
    gt = np.ones((int(gt_s * gt_fps), 2, 2), dtype=bool)
    owed_s = min(len(gt) / gt_fps, 2.0)
    for seconds in (owed_s, 5.0):
        gen = np.ones((int(seconds * gen_fps + 1e-6), 2, 2), dtype=bool)
        result = _strict(gt, gen, gt_fps, gen_fps)
        assert (result["num_frames_uncovered"], result["miss_rate"], result["l2"]) == (0, 0, 0)
    half = gen[: int(owed_s / 2 * gen_fps)]
    assert _strict(gt, half, gt_fps, gen_fps)["l2"] == pytest.approx(0.5, abs=0.1)


def test_frames_due() -> None:
    assert num_frames_due(32, 16, 16) == 32
    assert num_frames_due(1440, 120, 16) == 32  # 12 s: only 2 are owed
    assert num_frames_due(120, 120, 24) == 24
    assert num_frames_due(32, 16, 0.5) == 16  # not under 8 Hz


@pytest.mark.parametrize("claimed_fps", [0.01, 0.5, 4, 64, 1e6])
def test_another_frame_rate_does_not_hide_a_frozen_object(claimed_fps: float) -> None:
    """One frame of a slow video, or a fast video that is over at once, would be perfect."""
    gt, frozen = _fall(32, 16), np.repeat(_fall(1, 16), 32, axis=0)
    honest, claimed = _strict(gt, frozen, 16, 16), _strict(gt, frozen, 16, claimed_fps)
    assert claimed["l2"] >= honest["l2"] and claimed["chamfer"] >= honest["chamfer"]
    assert claimed["iou"] <= honest["iou"]


@pytest.mark.parametrize("wide", [3, 9, 15])
@pytest.mark.parametrize("high", [3, 9, 21])
def test_spread_of_rectangles(wide: int, high: int) -> None:
    """Variance of w pixels in a row: (w^2 - 1) / 12."""
    first, second = np.zeros((2, 64, 64), dtype=bool)
    first[20:29, 20:29] = True  # centre (24, 24)
    second[34 - high // 2 : 35 + high // 2, 24 - wide // 2 : 25 + wide // 2] = True
    sides = [math.sqrt((side**2 - 1) / 12) for side in (9, wide, high)]
    expected = math.hypot(10, sides[1] - sides[0], sides[2] - sides[0])
    assert spread_l2_px(first, second) == pytest.approx(expected, rel=1e-9)


def test_l2_sees_copies_whose_common_centroid_is_right() -> None:
    gt = _fall(32, 16)
    copies = np.roll(gt, -15, axis=2) | np.roll(gt, 15, axis=2)
    joined = copies.copy()
    joined[np.arange(32), gt.any(axis=2).argmax(axis=1) + 6, 5:47] = True  # one piece
    for gen in (copies, joined):
        assert evaluate_pair(gt, gen, 16, 16, protocol="paper")["l2"] < 0.01
        assert _strict(gt, gen, 16, 16)["l2"] > 0.08
