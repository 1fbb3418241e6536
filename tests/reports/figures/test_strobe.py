"""Stroboscopic pictures: moments of the object over the clean background."""

import numpy as np

from pisa.reports.figures.strobe import stroboscopic


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
