from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pisa.errors import PisaError
from pisa.reports.contact_sheet import contact_sheet, save_png, stroboscopic


def test_the_sheet_holds_every_shown_frame(moving_square):
    videos = {
        "psft": moving_square(start_x=2, fall_px=3, num_frames=6)["frames"],
        "truth": moving_square(start_x=20, fall_px=3, num_frames=8)["frames"],
    }
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


def test_stroboscopic_shows_the_object_over_the_clean_background(moving_square):
    clip = moving_square(start_x=8, fall_px=6, num_frames=4)
    image = stroboscopic(clip["frames"], clip["mask"], every=3)
    assert image[clip["mask"][3]].tolist() == [[220, 40, 40]] * 36
    assert (image[8:12, 9:12] == 120).all()  # frame 1 is not shown: background behind it
    faint = image[2, 9]
    assert 120 < faint[0] < 220 and 40 < faint[1] < 120


def test_stroboscopic_where_the_object_never_moves(moving_square):
    clip = moving_square(start_x=8, fall_px=0)
    image = stroboscopic(clip["frames"], clip["mask"])
    np.testing.assert_array_equal(image, clip["frames"][0])


def test_png_round_trip(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    save_png(tmp_path / "a" / "sheet.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a" / "sheet.png")), image)
    with pytest.raises(PisaError, match="cannot write"):
        save_png(tmp_path / "a" / "sheet.png" / "x.png", image)
