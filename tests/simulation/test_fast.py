"""The fast backend against closed forms: free fall, projected motion, determinism."""

import numpy as np
import pytest
import torch

from pisa.ops.camera import project, ray_directions, rigid_flow, rotate, unproject
from pisa.simulation.fast import FastSimulator
from pisa.simulation.physics import simulate_fall
from pisa.simulation.scene import Prior, draw_scene
from pisa.types import GRAVITY_M_S2, Camera

TINY = Prior(num_dropping=(1, 2), num_pile=(0, 2), size_m=None, span_px=(9.0, 20.0))
SIMULATOR = FastSimulator(TINY)


@pytest.fixture(scope="module")
def clips():
    return [SIMULATOR.make_clip(seed, "train", f"{seed}") for seed in range(4)]


def test_free_fall_matches_the_closed_form_within_a_tenth_of_a_millimetre():
    checked = 0
    for seed in range(6):
        scene = draw_scene(Prior(num_pile=(0, 0), num_dropping=(1, 1)), seed, "train", 64)
        motion = simulate_fall(scene, 32, 16)
        time_s = torch.arange(32) / 16
        expected = scene.objects[-1].position_m[2] - GRAVITY_M_S2 * time_s.double() ** 2 / 2
        falling = time_s < motion.contact_s[-1] - 1 / 240
        error = (motion.poses.position_m[:, -1, 2] - expected)[falling].abs()
        checked += int(falling.sum())
        assert error.max() < 1e-4
    assert checked > 30


def test_contact_time_matches_the_drop_height():
    scene = draw_scene(Prior(num_pile=(0, 0), num_dropping=(1, 1)), 1, "train", 64)
    contact_s = simulate_fall(scene, 32, 16).contact_s[-1]
    assert contact_s == pytest.approx(
        (2 * scene.drop_heights_m[-1] / GRAVITY_M_S2) ** 0.5, abs=0.015
    )


def test_rolling_friction_brings_objects_to_rest_where_they_land():
    """Over 8 drops: how far the object moves sideways in the second after its impact."""
    moved_m = []
    for rolling_friction in (0.0, 0.1):
        prior = Prior(
            num_dropping=(1, 1),
            num_pile=(0, 0),
            restitution=(0.0, 0.0),
            rolling_friction=rolling_friction,
        )
        far_m = []
        for seed in range(8):
            motion = simulate_fall(draw_scene(prior, seed, "train", 64), 32, 16)
            where = motion.poses.position_m[:, -1, :2]
            far_m.append((where[-1] - where[0]).norm())
        moved_m.append(torch.stack(far_m).mean())
    assert moved_m[1] < moved_m[0] / 3


def test_the_same_seed_gives_the_same_bytes(clips):
    for seed in (0, 3):
        again, information = SIMULATOR.make_clip(seed, "train", f"{seed}")
        clip, first_information = clips[seed]
        assert torch.equal(clip.video, again.video)
        assert torch.equal(clip.masks, again.masks)
        assert torch.equal(clip.depth_m, again.depth_m)
        assert torch.equal(clip.poses.position_m, again.poses.position_m)
        assert information == first_information


def test_another_seed_gives_another_clip(clips):
    assert not torch.equal(clips[0][0].video, clips[1][0].video)


def test_masks_lie_where_the_object_projects(clips):
    for clip, _ in clips:
        for t in (0, 4, 8):
            centre = project(clip.poses.position_m[t, -1], clip.camera)
            y, x = torch.nonzero(clip.masks[-1, t], as_tuple=True)
            if len(y) < 20:
                continue  # hidden or out of view
            assert abs(x.double().mean() - centre[0]) < 4
            assert abs(y.double().mean() - centre[1]) < 4


def test_flow_is_the_projected_motion_of_surface_points(clips):
    """Rebuild each pixel's motion by pose algebra in NumPy and compare."""
    from scipy.spatial.transform import Rotation

    clip, _ = clips[1]
    flow = rigid_flow(clip.depth_m, clip.masks, clip.poses, clip.camera)
    for t in (0, 5, 9):
        y, x = np.nonzero(clip.masks[-1, t].numpy())
        world = unproject(clip.depth_m[t].double(), clip.camera)[y, x].numpy()
        before, after = (Rotation.from_quat(clip.poses.quaternion[k, -1]) for k in (t, t + 1))
        start, end = (clip.poses.position_m[k, -1].numpy() for k in (t, t + 1))
        moved = after.apply(before.inv().apply(world - start)) + end
        expected = project(torch.from_numpy(moved), clip.camera).numpy() - np.stack([x, y], -1)
        assert np.allclose(flow[:, t, y, x].T.numpy(), expected, atol=1e-3)
    background = ~clip.masks.any(dim=0)[:-1]
    assert flow[:, background].abs().max() == 0


def test_warping_the_image_by_the_flow_reproduces_the_next_frame(clips):
    """An independent check: the renderer's next frame looks as the flow says."""
    clip, _ = clips[0]
    flow = rigid_flow(clip.depth_m, clip.masks, clip.poses, clip.camera)
    t = 3
    y, x = torch.nonzero(clip.masks[-1, t], as_tuple=True)
    target = torch.stack([x, y], -1) + flow[:, t, y, x].T
    nearest = target.round().long().clamp(0, 63)
    hit = clip.masks[-1, t + 1, nearest[:, 1], nearest[:, 0]]
    assert hit.float().mean() > 0.85
    still = clip.masks[-1, t + 1, y, x]
    assert hit.float().mean() > still.float().mean()


def test_depth_is_euclidean_and_floor_points_lie_on_the_floor(clips):
    clip, _ = clips[0]
    points = unproject(clip.depth_m.double(), clip.camera)
    background = ~clip.masks.any(dim=0)
    bottom = points[:, -1][background[:, -1]]
    assert bottom[:, 2].abs().max() < 1e-3


def test_drifting_objects_never_fall():
    simulator = FastSimulator(
        Prior(size_m=None, span_px=(9.0, 20.0), num_dropping=(1, 2), motion="drift")
    )
    for seed in range(8):
        clip, _ = simulator.make_clip(seed, "train", "x")
        height = clip.poses.position_m[:, -1, 2]
        assert height.min() >= height[0] - 0.16
        assert clip.drop_height_m is None


def test_camera_round_trip_within_half_a_pixel():
    camera = Camera((0.1, -2.0, 0.5), 48, 64)
    depth = torch.full((48, 64), 3.0, dtype=torch.float64)
    pixels = project(unproject(depth, camera), camera)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    assert torch.allclose(pixels, torch.stack([x, y], -1).double(), atol=1e-9)
    assert ray_directions(camera).norm(dim=-1).allclose(torch.ones(48, 64, dtype=torch.float64))


def test_rotate_by_a_quarter_turn():
    quarter = torch.tensor([0.0, 0.0, 2**-0.5, 2**-0.5])
    assert torch.allclose(
        rotate(quarter, torch.tensor([1.0, 0, 0])), torch.tensor([0, 1.0, 0]), atol=1e-6
    )
