"""Time error (Eq. 8) against closed-form falls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.metrics import time_error
from pisa.types import GRAVITY_M_S2

FPS_HZ, FRAMES, SIZE, TOP_PX, PX_PER_M = 16.0, 32, 96, 8, 20.0
HEIGHT_M = 2.0
DROP_S = math.sqrt(2 * HEIGHT_M / GRAVITY_M_S2)  # 0.639 s, frame 10.2


def _masks(y_px: Sequence[float]) -> np.ndarray:
    """A 9 x 9 px square at those heights; NaN for none."""
    rows = np.arange(SIZE)[:, None]
    column = np.abs(np.arange(SIZE) - 40) <= 4
    return np.stack([(np.abs(rows - y) <= 4) & column for y in y_px])


def _fall(
    height_m: float = HEIGHT_M, *, restitution: float = 0.0, slower: float = 1.0
) -> list[float]:
    impact_s = math.sqrt(2 * height_m / GRAVITY_M_S2)
    bounce_m_s = restitution * GRAVITY_M_S2 * impact_s

    def depth_m(t: float) -> float:
        if t <= impact_s:
            return GRAVITY_M_S2 / 2 * t**2
        after = t - impact_s
        return height_m - max(0.0, bounce_m_s * after - GRAVITY_M_S2 / 2 * after**2)

    return [round(TOP_PX + PX_PER_M * depth_m(i / FPS_HZ * slower)) for i in range(FRAMES)]


def test_a_true_bounce_is_within_a_frame() -> None:
    assert time_error(_masks(_fall(restitution=0.6)), FPS_HZ, HEIGHT_M) <= 1 / FPS_HZ
    # frame 11 is the first that is higher than the one before only if the bounce is high enough
    assert time_error(_masks(_fall(restitution=0.95)), FPS_HZ, HEIGHT_M) == 0.0


def test_a_true_landing_without_bounce_is_within_a_frame() -> None:
    assert time_error(_masks(_fall()), FPS_HZ, HEIGHT_M) <= 1 / FPS_HZ


def test_zero_inside_the_frame_before_impact_and_distance_outside() -> None:
    y_px = [10, 12, 16, 22, 30, 20, 20]  # first upward velocity in frame 5: impact in [4, 5] / 16

    def error(drop_s: float) -> float:
        return time_error(_masks(y_px), FPS_HZ, GRAVITY_M_S2 / 2 * drop_s**2)

    assert error(4.01 / 16) == error(4.99 / 16) == error(4.5 / 16) == 0.0
    assert error(7 / 16) == pytest.approx(2 / 16)
    assert error(1 / 16) == pytest.approx(3 / 16)


def test_a_slow_fall_costs_the_delay() -> None:
    error = time_error(_masks(_fall(slower=0.5)), FPS_HZ, HEIGHT_M)
    assert error == pytest.approx(DROP_S, abs=1.5 / FPS_HZ)


def test_jitter_before_the_fall_is_no_impact() -> None:
    y_px = _fall()
    y_px[1] -= 1
    assert time_error(_masks(y_px), FPS_HZ, HEIGHT_M) <= 1 / FPS_HZ


def test_no_impact_counts_from_the_end_of_the_clip() -> None:
    falling = _masks([TOP_PX + 2 * i for i in range(FRAMES)])
    last_s = (FRAMES - 1) / FPS_HZ
    assert time_error(falling, FPS_HZ, HEIGHT_M) == pytest.approx(last_s - DROP_S)
    assert time_error(falling, FPS_HZ, 100.0) == 0.0  # impact truly after the clip


def test_vanishing_before_impact_is_no_impact() -> None:
    masks = _masks(_fall())
    masks[8:] = False
    last_s = (FRAMES - 1) / FPS_HZ
    assert time_error(masks, FPS_HZ, HEIGHT_M) == pytest.approx(last_s - DROP_S)


@pytest.mark.parametrize("velocity_px", [0, -1])
@pytest.mark.parametrize("height_m", [HEIGHT_M, 15.0, 100.0])
def test_never_falling_is_the_worst_estimate(velocity_px: int, height_m: float) -> None:
    masks = _masks([60 + velocity_px * i for i in range(FRAMES)])
    drop_s, last_s = math.sqrt(2 * height_m / GRAVITY_M_S2), (FRAMES - 1) / FPS_HZ
    expected = max(drop_s, abs(last_s - drop_s))
    assert time_error(masks, FPS_HZ, height_m) == pytest.approx(expected)
    assert time_error(masks & False, FPS_HZ, height_m) == pytest.approx(expected)


def test_a_gap_in_the_masks_is_bridged() -> None:
    masks = _masks(_fall(restitution=0.6))
    masks[5] = False
    assert time_error(masks, FPS_HZ, HEIGHT_M) <= 1 / FPS_HZ


@pytest.mark.parametrize(("fps_hz", "height_m"), [(0, 1), (16, 0), (16, -1), (16, float("nan"))])
def test_bad_numbers_are_refused(fps_hz: float, height_m: float) -> None:
    with pytest.raises(PisaError, match="positive"):
        time_error(_masks([1, 2, 3]), fps_hz, height_m)


def test_an_empty_clip_is_refused() -> None:
    with pytest.raises(PisaError, match="no frames"):
        time_error(np.zeros((0, 4, 4), dtype=bool), FPS_HZ, HEIGHT_M)


def test_a_glancing_contact_is_the_impact_not_the_later_landing() -> None:
    fall = [TOP_PX + 0.6 * t**2 for t in range(7)]  # 6 px and more per frame, then off a pile
    y_px = [*fall, 32.5, 35, 39, 45, 52, 60, 60, 60]
    drop_s = 6.5 / FPS_HZ  # the contact lies between frames 6 and 7
    assert time_error(_masks(y_px), FPS_HZ, GRAVITY_M_S2 / 2 * drop_s**2) == 0.0


@pytest.mark.parametrize("contact", [6.1, 6.5, 6.9])
def test_a_contact_anywhere_between_two_frames_costs_nothing(contact: float) -> None:
    y_px = [TOP_PX + 1.2 * min(t, contact) ** 2 for t in range(12)]
    assert time_error(_masks(y_px), FPS_HZ, GRAVITY_M_S2 / 2 * (contact / FPS_HZ) ** 2) == 0.0
