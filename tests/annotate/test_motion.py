"""Release moments, and the way of what falls."""

from __future__ import annotations

import numpy as np
import pytest

from pisa.annotate.motion import find_releases, motion_signal, moving_area, onset_near, suggest
from tests.annotate import drawn


@pytest.fixture(scope="module")
def grid(footage: drawn.Drawn) -> np.ndarray:
    return footage.grid


def test_both_releases_are_found_within_a_few_frames(grid) -> None:
    found = find_releases(grid)
    assert len(found) == 2
    for release, truth in zip(found, drawn.RELEASES, strict=True):
        assert 0 <= release.start - truth <= 4  # 4 frames: 5 mm of fall
        assert release.stop - truth in range(70, 110)  # 58 frames of fall, then a rest


def test_noise_alone_is_no_release() -> None:
    noise = np.random.default_rng(0).normal(120, 2, (400, 30, 40)).astype(np.uint8)
    assert find_releases(noise) == []


def test_what_moves_from_the_start_is_no_release(grid) -> None:
    assert find_releases(grid[55:115]) == []


def test_the_onset_is_that_of_the_motion_on_show_or_the_next(grid) -> None:
    signal = motion_signal(grid)
    seen = onset_near(signal, drawn.RELEASES[0])
    assert seen is not None and 2 <= seen - drawn.RELEASES[0] <= 7
    assert onset_near(signal, drawn.RELEASES[0] + 40) == seen  # in the fall
    assert onset_near(signal, drawn.RELEASES[0] - 30) == seen  # before it
    assert onset_near(signal, drawn.NUM_FRAMES - 10) is None


def test_the_suggested_crop_holds_the_whole_fall(grid, footage) -> None:
    start, stop = drawn.RELEASES[0], drawn.RELEASES[0] + 90
    crop = suggest(moving_area(grid[start:stop]), drawn.SIZE)
    disk = footage.disk[start:stop]
    inside = disk[:, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    assert inside.sum() == disk.sum()
    assert crop.side <= drawn.SIZE[0]


def test_a_larger_picture_gives_the_same_place(grid) -> None:
    area = moving_area(grid[45:135])
    small, large = suggest(area, drawn.SIZE), suggest(area, (960, 1280))
    assert large.side == round(4 * small.side) or abs(large.side - 4 * small.side) <= 4
