"""Lifting synthetic falls: the depth comes back, and what is no fall is far from every fall."""

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay, drop_time_s
from pisa.section5.impact import count_statuses, find_drop
from pisa.section5.lift3d import lift, plain, summarise
from pisa.types import Camera

CAMERA = Camera((0.0, 0.0, 0.5), 256, 256)
FPS_HZ, NUM_FRAMES = 16.0, 16
RANGE_M = (2.0, 18.0)


def clip_of(rows_px: np.ndarray, size_px: int = 40) -> np.ndarray:
    """Masks of a square whose lower edge is at the given pixel rows."""
    masks = np.zeros((len(rows_px), 256, 256), dtype=bool)
    for mask, row in zip(masks, rows_px, strict=True):
        bottom = round(float(row))
        mask[max(0, bottom - size_px) : bottom, 100 : 100 + size_px] = True
    return masks


def fall(depth_m: float, slope: float, speed: float = 1.0) -> np.ndarray:
    """A true fall at that depth; ``speed`` other than 1 is no fall under gravity."""
    ray = DropRay(slope, 0.5)
    times_s = np.arange(NUM_FRAMES) / FPS_HZ * speed
    end_s = float(drop_time_s(ray.height_m(depth_m)))
    return clip_of(np.asarray(ray.row_px(np.minimum(times_s, end_s), depth_m, CAMERA)))


@pytest.mark.parametrize("depth_m", [2.5, 6.0, 12.0])
def test_a_true_fall_lifts_to_its_depth(depth_m):
    lifted = lift(fall(depth_m, 0.1), CAMERA, FPS_HZ, RANGE_M, depth_m=depth_m)
    assert lifted.status == "impact"
    assert lifted.implied_depth_m == pytest.approx(depth_m, abs=0.1 * depth_m)
    assert lifted.rms_m < 0.05 * depth_m / 2
    assert lifted.height_m[0] == pytest.approx(0.5 + lifted.slope * lifted.implied_depth_m)
    assert len(lifted.height_m) == len(lifted.time_s) > 5


def test_a_fall_from_outside_the_range_is_as_far_as_it_is_outside():
    lifted = lift(fall(12.0, 0.1), CAMERA, FPS_HZ, (2.0, 6.0))
    assert lifted.nearest_depth_m == pytest.approx(6.0)
    assert lifted.rms_m > 4.0


def test_uniform_motion_is_farther_from_every_fall_than_a_fall_is():
    ray = DropRay(0.1, 0.5)
    true = fall(6.0, 0.1)
    rows = np.asarray(ray.row_px(np.arange(NUM_FRAMES) / FPS_HZ, 6.0, CAMERA))
    end = int(np.ceil(float(drop_time_s(ray.height_m(6.0))) * FPS_HZ))
    floor = CAMERA.focal_px * 0.5 / 6.0 + 127.5
    even = rows[0] + (floor - rows[0]) * np.minimum(np.arange(NUM_FRAMES) / end, 1)
    lifted = lift(clip_of(even), CAMERA, FPS_HZ, RANGE_M)
    assert lifted.status == "impact"
    assert lifted.rms_m > 3 * lift(true, CAMERA, FPS_HZ, RANGE_M).rms_m


def test_without_an_impact_nothing_is_lifted():
    hovering = clip_of(np.full(NUM_FRAMES, 100.0))
    lifted = lift(hovering, CAMERA, FPS_HZ, RANGE_M)
    assert lifted.status == "hovering" and np.isnan(lifted.rms_m)
    assert plain(lifted)["rms_m"] is None and lifted.height_m == ()
    lost = fall(6.0, 0.1)
    lost[1:] = False
    assert find_drop(lost).status == "lost"
    falling = fall(6.0, 0.1)[:6]
    assert find_drop(falling).status == "falling" and find_drop(falling).category(6) == 6
    clips = [lifted, lift(fall(6.0, 0.1), CAMERA, FPS_HZ, RANGE_M)]
    assert summarise(clips)["n"] == 1 and summarise(clips)["clips"] == 2
    assert count_statuses([find_drop(lost)]) == {
        "impact": 0,
        "falling": 0,
        "hovering": 0,
        "lost": 1,
    }


def test_an_empty_first_mask_is_refused():
    with pytest.raises(PisaError, match="first frame"):
        lift(np.zeros((4, 256, 256), bool), CAMERA, FPS_HZ, RANGE_M)


def test_a_fall_too_short_for_any_depth_in_front_of_the_camera_is_not_lifted():
    rows = np.array([140] + [146] * (NUM_FRAMES - 1))  # down in one frame
    assert find_drop(clip_of(rows)).status == "impact"
    lifted = lift(clip_of(rows), CAMERA, FPS_HZ, RANGE_M, slope=0.1)
    assert lifted.status == "too_short" and np.isnan(lifted.implied_depth_m)
    summary = summarise([lifted, lift(fall(6.0, 0.1), CAMERA, FPS_HZ, RANGE_M)])
    assert summary["n"] == 1 and summary["statuses"] == {"impact": 1, "too_short": 1}
