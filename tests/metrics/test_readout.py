"""Read-out and failure labels on closed-form falls and attacked clips."""

from __future__ import annotations

import numpy as np
import pytest

from pisa.metrics.failures import failure_labels
from pisa.metrics.readout import read_out
from tests.red_team import attacks

SIZE, FRAMES, G_PX = 64, 32, 0.6
EXPECTED = {
    "hovers": attacks.hover,
    "rises": attacks.rise,
    "too_slow": attacks.time_warp,
    "horizontal": attacks.slide,
    "vanishes": attacks.vanish,
    "deforms": attacks.deform,
    "new_object": attacks.duplicate,
    "scene_cut": attacks.teleport,
}


def _clip(x: int = 24) -> np.ndarray:
    """``[T, 1, H, W]``: a square that falls, touches the floor at frame 10.5 and rests."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y = np.minimum(14 + G_PX / 2 * np.arange(FRAMES) ** 2, 47)
    square = [(np.abs(rows - v) <= 5) & (np.abs(columns - x) <= 5) for v in y]
    return np.stack(square)[:, None]


def test_gravity_and_its_unit() -> None:
    readout = read_out(_clip(), fps_hz=16, px_per_m=G_PX * 16**2 / 9.81)
    assert readout.g_px == pytest.approx(G_PX, rel=0.05)
    assert readout.g_px_ci95[0] <= G_PX <= readout.g_px_ci95[1]
    assert readout.g_m_s2 == pytest.approx(9.81, rel=0.05)
    assert readout.impact_frame == 11
    assert readout.drift_px == pytest.approx(0.0) and readout.shape_change < 0.2
    assert readout.restitution == 0.0


def test_an_empty_track_has_no_physics() -> None:
    readout = read_out(_clip() & False, fps_hz=16)
    assert np.isnan(readout.g_px) and readout.impact_frame is None


@pytest.mark.parametrize("x", [16, 24, 44])
def test_true_clips_have_no_failure(x: int) -> None:
    assert failure_labels(_clip(x), _clip(x), 16) == set()


@pytest.mark.parametrize("label", EXPECTED)
@pytest.mark.parametrize("x", [16, 24, 44])
def test_an_attack_is_named(label: str, x: int) -> None:
    masks = _clip(x)
    assert label in failure_labels(EXPECTED[label](masks, 1.0), masks, 16)
