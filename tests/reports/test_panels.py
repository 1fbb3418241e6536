from __future__ import annotations

import base64

import numpy as np
import pytest

from pisa.reports.panels import build_panels, pack_mask, trajectory


def test_a_packed_mask_unpacks_to_itself():
    rng = np.random.default_rng(0)
    mask = np.zeros((3, 20, 30), dtype=bool)
    mask[0, 4:13, 6:17] = rng.random((9, 11)) < 0.5
    mask[2, 19, 29] = True
    packed = pack_mask(mask)
    assert packed["frames"][1] is None
    restored = np.zeros_like(mask)
    for t, box in enumerate(packed["frames"]):
        if box:
            x, y, width, height, bits = box
            raw = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
            restored[t, y : y + height, x : x + width] = np.unpackbits(raw)[
                : width * height
            ].reshape(height, width)
    np.testing.assert_array_equal(restored, mask)


def test_large_masks_are_thinned():
    packed = pack_mask(np.ones((1, 256, 256), dtype=bool))
    assert (packed["width"], packed["height"]) == (128, 128)


def test_trajectory_in_fractions_with_gaps():
    mask = np.zeros((2, 10, 20), dtype=bool)
    mask[0, 2:4, 4:8] = True
    assert trajectory(mask) == [[pytest.approx(6 / 20), pytest.approx(3 / 10)], None]


def test_lengths_and_sizes_may_differ(moving_square):
    item = {
        "clip": "a",
        "split": "real",
        "models": {
            "truth": moving_square(start_x=2, fall_px=1, num_frames=8, size=32),
            "psft": moving_square(start_x=2, fall_px=1, num_frames=5, size=64),
        },
    }
    (panel,) = build_panels([item], [], fps_hz=16.0)
    assert panel.num_frames == 8
    path = panel.overlay["psft"]["path"]
    assert len(path) == 8 and path[4:] == [path[4]] * 4
    assert panel.scores == {"truth": {}, "psft": {}}


def test_scores_are_those_of_the_shown_seed_and_have_names_that_people_read(moving_square):
    item = {"clip": "a", "split": "real", "seed": 1}
    item["models"] = {"psft": moving_square(start_x=2, fall_px=1)}
    rows = [
        {
            "model": "psft",
            "split": "real",
            "clip": "a",
            "seed": seed,
            "l2": 0.1 * seed,
            "coverage": 1.0,
        }
        for seed in (0, 1)
    ]
    (panel,) = build_panels([item], rows, fps_hz=16.0)
    assert panel.scores == {"psft": {"l2": 0.1}}
