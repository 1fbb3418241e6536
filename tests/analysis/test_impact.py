"""Impact of an object that lands on an edge and tips over."""

import numpy as np

from pisa.analysis.impact import find_drop
from pisa.metrics.time_error import impact_frame
from pisa.ops.masks import centroids

CONTACT = 6


def tipping_bar(noise_rows: int = 0) -> np.ndarray:
    """A bar falls, stands on the floor from frame 6 on, and tips over faster and faster."""
    masks = np.zeros((16, 256, 256), dtype=bool)
    for t, mask in enumerate(masks):
        bottom = 150 + round(0.5 * min(t, CONTACT) ** 2)
        height = max(12, 80 - round(11.5 * max(0, t - CONTACT) ** 1.2))
        mask[bottom - height : bottom, 100:140] = True
        mask[bottom : bottom + noise_rows * (t % 2), 110] = True
    return masks


def test_impact_is_the_contact_and_not_the_end_of_tipping():
    masks = tipping_bar()
    by_centroid = impact_frame(centroids(masks)[:, 1], 0.02 * 256)
    assert by_centroid is not None and by_centroid >= CONTACT + 3
    drop = find_drop(masks)
    assert drop.status == "impact" and drop.frame in (CONTACT, CONTACT + 1)


def test_single_pixels_under_the_object_do_not_count():
    assert find_drop(tipping_bar(noise_rows=6)).frame in (CONTACT, CONTACT + 1)


def block(bottoms_px: list[int]) -> np.ndarray:
    masks = np.zeros((len(bottoms_px), 256, 256), dtype=bool)
    for mask, bottom in zip(masks, bottoms_px, strict=True):
        mask[bottom - 30 : bottom, 100:140] = True
    return masks


def test_a_step_that_falls_on_for_a_while_holds_the_impact():
    masks = block([150, 151, 155, 161, 170, 181, 188, 188, 188])
    assert find_drop(masks).frame == 6 == impact_frame(centroids(masks)[:, 1], 0.02 * 256)


def test_a_step_without_any_fall_comes_after_the_impact():
    masks = block([150, 151, 155, 161, 170, 181, 181, 181, 181])
    assert impact_frame(centroids(masks)[:, 1], 0.02 * 256) == 6
    assert find_drop(masks).frame == 5
