from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pisa.errors import PisaError
from tests.red_team.contact_sheet import contact_sheet, save_png


def falling_square(num_frames: int) -> np.ndarray:
    frames = np.full((num_frames, 32, 32, 3), 120, dtype=np.uint8)
    for t in range(num_frames):
        frames[t, 3 * t : 3 * t + 6, 20:26] = (220, 40, 40)
    return frames


def test_the_sheet_holds_every_shown_frame():
    videos = {"psft": falling_square(6), "truth": falling_square(8)}
    sheet = contact_sheet(videos, every=2, scale=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    truth_first = np.kron(videos["truth"][6], np.ones((2, 2, 1), np.uint8))
    top = 13 + 2 * 4
    np.testing.assert_array_equal(sheet[top : top + 64, -68:-4], truth_first)
    assert (sheet[top + 68 : top + 132, -68:-4] == 255).all()  # the shorter video ends earlier


def test_sizes_must_agree():
    videos = {"a": np.zeros((2, 8, 8, 3), np.uint8), "b": np.zeros((2, 8, 9, 3), np.uint8)}
    with pytest.raises(ValueError, match="one frame size"):
        contact_sheet(videos)


def test_png_round_trip(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    save_png(tmp_path / "a" / "sheet.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a" / "sheet.png")), image)
    with pytest.raises(PisaError, match="cannot write"):
        save_png(tmp_path / "a" / "sheet.png" / "x.png", image)
