"""The ray of a dropping object: round trips, and the simulator's own camera, poses and masks."""

import numpy as np
import pytest
import torch

from pisa.ops.camera import project
from pisa.ops.drop_ray import (
    DropRay,
    bottom_row_px,
    drop_time_s,
    fallen_m,
    height_of_row,
    row_of_slope,
    slope_of_row,
)
from pisa.simulation.ambiguous import AmbiguousPrior, ray_of
from pisa.simulation.assets import lowest_point_m
from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.scene import Prior
from pisa.types import Camera

CAMERA = Camera((0.2, -1.0, 0.5), 64, 64)
PRIOR = AmbiguousPrior(
    Prior(size_m=None, span_px=(9.0, 20.0)), min_slope=0.04, max_drop_s=0.875, trajectories=1
)


@pytest.mark.parametrize("row_px", [3.0, 20.5, 31.5, 40.0])
def test_row_slope_height_depth_round_trips(row_px):
    assert row_of_slope(slope_of_row(row_px, CAMERA), CAMERA) == pytest.approx(row_px)
    ray = DropRay.through_row(row_px, CAMERA)
    depth_m = np.linspace(1, 18, 7)
    assert height_of_row(row_px, depth_m, CAMERA) == pytest.approx(ray.height_m(depth_m))
    if row_px != 31.5:
        assert ray.depth_m(ray.height_m(depth_m)) == pytest.approx(depth_m)
        kept = ray.height_m(depth_m) > 0
        times_s = ray.drop_time_s(depth_m[kept])
        assert ray.implied_depth_m(times_s) == pytest.approx(depth_m[kept])


def test_the_ray_is_that_of_the_projection():
    """A point at any depth on the ray lands in the row that the ray was made from."""
    ray = DropRay.through_row(12.25, CAMERA)
    for depth_m in (1.0, 4.0, 18.0):
        point = torch.tensor([0.7, -1.0 + depth_m, ray.height_m(depth_m)])
        assert project(point, CAMERA)[1] == pytest.approx(12.25, abs=1e-4)


def test_the_papers_line_is_the_same_line():
    """Y = y + beta Z with Z from the image plane (Appendix E) equals h + beta Z from the centre."""
    ray = DropRay.through_row(10.0, CAMERA)
    depth_m = np.array([2.0, 18.0])
    from_plane_m = depth_m - CAMERA.focal_mm / 1000
    assert ray.image_height_m + ray.slope * from_plane_m == pytest.approx(ray.height_m(depth_m))
    assert ray.image_height_m != pytest.approx(ray.camera_height_m, abs=1e-3)


def test_a_level_ray_implies_no_depth():
    ray = DropRay.through_row(31.5, CAMERA)
    assert not np.isfinite(ray.implied_depth_m(0.5))


def test_drop_time_of_a_metre():
    assert drop_time_s(1.0) == pytest.approx(0.45152, abs=1e-5)
    assert fallen_m(drop_time_s(1.3)) == pytest.approx(1.3)
    assert np.isnan(drop_time_s(-0.1))


def test_bottom_row_of_a_mask():
    mask = np.zeros((8, 8), bool)
    assert np.isnan(bottom_row_px(mask))
    mask[2:5, 3] = True
    assert bottom_row_px(mask) == 4.5


def test_row_over_time_is_that_of_the_simulators_poses():
    """Eq. 3 with the camera's height, against PyBullet's poses: within half a pixel."""
    for seed in range(4):
        scene, motion = draw_moving_scene(PRIOR, seed, "train", 64, 16, 16)
        ray, thing = ray_of(scene), scene.objects[-1]
        times_s = np.arange(16) / 16
        falling = times_s < motion.contact_s[-1]
        lowest = motion.poses.position_m[:, -1].clone()
        lowest[:, 2] += lowest_point_m(thing.asset, thing.size_m, thing.quaternion)
        truth = project(lowest, scene.camera)[:, 1].numpy()
        rows = ray.row_px(times_s, scene.study["depth_m"], scene.camera)
        assert np.abs(rows - truth)[falling].max() < 0.01
        assert falling.sum() > 4


def test_the_row_below_the_mask_is_where_the_object_ends():
    """The masks' bottom against the projected hull, over objects and frames."""
    from scipy.spatial.transform import Rotation

    from pisa.simulation.assets import load_asset

    simulator = FastSimulator(PRIOR, num_frames=6)
    errors = []
    for seed in range(6):
        clip, information = simulator.make_clip(seed, "train", "x")
        thing = information["objects"][-1]
        hull = load_asset(thing["asset"]).hull * thing["size_m"]
        for t in (0, 5):
            turn = Rotation.from_quat(clip.poses.quaternion[t, -1].numpy())
            points = turn.apply(hull) + clip.poses.position_m[t, -1].numpy()
            lowest = float(project(torch.from_numpy(points), clip.camera)[:, 1].max())
            errors.append(bottom_row_px(clip.masks[-1, t].numpy()) - lowest)
    assert abs(np.mean(errors)) < 0.25 and np.abs(errors).max() < 1.0
