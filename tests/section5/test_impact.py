"""Impact of an object that lands on an edge and tips over, or whose fall is not smooth."""

import numpy as np
import pytest

from pisa.metrics.time_error import impact_frame
from pisa.ops.masks import centroids
from pisa.section5.impact import count_rows, find_drop, fit_fall, low_rows_px

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


def block(bottoms_px) -> np.ndarray:
    masks = np.zeros((len(bottoms_px), 64, 64), dtype=bool)
    for mask, bottom in zip(masks, bottoms_px, strict=True):
        mask[round(bottom) - 6 : round(bottom), 30:36] = True
    return masks


def fall(rate: float, impact: float, num_frames: int = 16) -> np.ndarray:
    return 20 + rate * np.minimum(np.arange(num_frames), impact) ** 2 / 2


def test_impact_is_the_contact_and_not_the_end_of_tipping():
    masks = tipping_bar()
    by_centroid = impact_frame(centroids(masks)[:, 1], 0.02 * 256)
    assert by_centroid is not None and by_centroid >= CONTACT + 3
    drop = find_drop(masks)
    assert drop.status == "impact" and drop.frame in (CONTACT, CONTACT + 1)


def test_single_pixels_under_the_object_do_not_count():
    assert find_drop(tipping_bar(noise_rows=6)).frame in (CONTACT, CONTACT + 1)


@pytest.mark.parametrize("impact", [5.5, 8.3, 11.7, 13.5])
def test_the_fit_finds_the_impact_between_frames(impact):
    time, depth_px = fit_fall(fall(0.3, impact), 0.5)
    assert time == pytest.approx(impact, abs=0.051)
    assert depth_px == pytest.approx(0.15 * impact**2, rel=0.02)


@pytest.mark.parametrize("drift", [-0.5, 0.3, 0.6])
def test_a_drift_after_the_impact_is_no_fall(drift):
    later = np.maximum(0, np.arange(16) - 7.4)
    time, depth_px = fit_fall(fall(0.4, 7.4) + drift * later, 0.25)
    assert time == pytest.approx(7.4, abs=0.15)
    assert depth_px == pytest.approx(0.2 * 7.4**2, rel=0.04)


def test_low_rows_are_the_mean_of_the_lowest_tenth():
    mask = np.zeros((3, 32, 20), dtype=bool)
    mask[0, 5:15, :10] = True  # 100 pixels: the lowest ten are row 14
    mask[1, 5:15, :10] = mask[1, 15, :5] = True  # 105: five of row 15 and 5.5 of row 14
    rows = low_rows_px(count_rows(mask))
    assert rows[0] == 14
    assert rows[1] == pytest.approx((5 * 15 + 5.5 * 14) / 10.5)
    assert np.isnan(rows[2])


def test_jitter_of_whole_pixels_moves_it_by_a_frame_at_most():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        jitter = np.concatenate([[0], rng.normal(0, 0.6, 15)])
        found.append(find_drop(block(fall(0.3, 9.5) + jitter)).frame)
    assert set(found) <= {9, 10, 11} and found.count(10) > 20


def test_frames_without_a_mask_are_passed_over():
    masks = block(fall(0.3, 9.5))
    masks[[5, 12]] = False
    assert find_drop(masks).frame == 10


def test_what_never_stops_or_never_falls_has_no_impact():
    assert find_drop(block(fall(0.2, 99.0))).status == "falling"
    assert find_drop(block(fall(0.0, 9.0))).status == "hovering"
    gone = block(fall(0.3, 99.0)[:10])
    gone[8:] = False
    assert find_drop(gone).status == "falling"
    gone[1:] = False
    assert find_drop(gone).status == "lost"
