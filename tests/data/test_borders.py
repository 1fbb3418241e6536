"""Black borders: found where they are, and nothing else is cut off."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pisa.data.borders import central_window, content_window


@settings(deadline=None, max_examples=60)
@given(
    side=st.integers(16, 60),
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_padding_is_found_wherever_it_is(side, before, after, wide, seed) -> None:
    """A square picture that reaches its edges, with bars of any two widths."""
    picture = np.random.default_rng(seed).integers(60, 256, (side, side, 3), dtype=np.uint8)
    widths = ((0, 0), (before, after), (0, 0)) if wide else ((before, after), (0, 0), (0, 0))
    frame = np.pad(picture, widths)
    window = content_window(frame, aspect=1.0)
    assert window is not None
    rows, columns = window
    if abs(frame.shape[1] / frame.shape[0] - 1) <= 0.02:
        assert frame[rows, columns].shape == frame.shape  # too little to be borders
    else:
        kept = columns if wide else rows
        assert abs(kept.start - before) <= 2 and kept.stop - kept.start == side


def test_the_right_aspect_is_never_cut() -> None:
    dark = np.zeros((40, 40, 3), dtype=np.uint8)
    dark[15:25, 15:25] = 255
    assert content_window(dark, 1.0) == (slice(0, 40), slice(0, 40))
    wide = np.zeros((20, 40, 3), dtype=np.uint8)
    assert content_window(wide, 2.0) == (slice(0, 20), slice(0, 40))


def test_dark_scenes_are_cut_at_the_centre() -> None:
    frame = np.zeros((40, 90, 3), dtype=np.uint8)
    frame[10:20, 40:44] = 255
    assert content_window(frame, 1.0) == (slice(0, 40), slice(25, 65))
    assert content_window(np.zeros((40, 90, 3), np.uint8), 1.0) == (slice(0, 40), slice(25, 65))


def test_codec_noise_and_ringing_do_not_hide_borders() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 24, (48, 96, 3), dtype=np.uint8)
    frame[:, 24:72] = rng.integers(60, 256, (48, 48, 3), dtype=np.uint8)
    frame[:, 23] = 60  # the picture rings into the bar
    window = content_window(frame, 1.0)
    assert window is not None and abs(window[1].start - 24) <= 1


def test_no_borders() -> None:
    bright = np.full((40, 90, 3), 100, dtype=np.uint8)
    assert content_window(bright, 1.0) is None
    bright[:, :50] = 0  # one bar, at the left
    assert content_window(bright, 1.0) == (slice(0, 40), slice(50, 90))
    assert central_window(40, 90, 1.0) == (slice(0, 40), slice(25, 65))
    assert central_window(90, 40, 1.0) == (slice(25, 65), slice(0, 40))
