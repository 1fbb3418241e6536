"""Real renders by Kubric and Blender: `pytest -m kubric`, after `make kubric-env`.

The silent failures known for optical flow (a constant row component, persistent data) are caught by
holding it against projected object motion, and forward against backward.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pisa.errors import PisaError
from pisa.ops.camera import project, rigid_flow, unproject
from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.kubric.description import describe
from pisa.simulation.kubric.hdris import choose_hdri, packaged_folder
from pisa.simulation.kubric.process import Renderer
from pisa.simulation.kubric.simulator import KubricSimulator
from pisa.simulation.release import ReleasePrior
from pisa.simulation.scene import Prior

PYTHON = Path(__file__).parents[2] / ".venv-kubric/bin/python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.kubric,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not PYTHON.is_file(), reason="the renderer's environment is not there: make kubric-env"
    ),
]
PRIOR = Prior(num_dropping=(2, 2), num_pile=(0, 1))
NUM_FRAMES, SEED, SPLIT = 4, 5, "train"
KUBRIC = KubricSimulator(PRIOR, num_frames=NUM_FRAMES, fps_hz=8, python=str(PYTHON))
FAST = FastSimulator(PRIOR, 256, NUM_FRAMES, fps_hz=8, samples=1)


@pytest.fixture(scope="module")
def clip():
    return KUBRIC.make_clip(SEED, SPLIT, "kubric")[0]


@pytest.fixture(scope="module")
def fast():
    return FAST.make_clip(SEED, SPLIT, "fast")[0]


def test_a_clip_has_everything(clip):
    assert clip.video.shape == (3, NUM_FRAMES, 256, 256)
    assert clip.flow_px.shape == clip.backward_flow_px.shape == (2, NUM_FRAMES - 1, 256, 256)
    assert clip.masks.any(dim=(2, 3))[:, 0].all()
    assert 0 < clip.depth_m.min() < clip.depth_m.max() <= 1000
    assert clip.video.std() > 0.1  # a picture, not one colour


def test_both_backends_have_the_same_trajectories_and_masks(clip, fast):
    """IoU at least 0.9 frame by frame, for every object of ten pixels and more."""
    assert torch.allclose(clip.poses.position_m, fast.poses.position_m)
    both, either = (clip.masks & fast.masks).sum((2, 3)), (clip.masks | fast.masks).sum((2, 3))
    large = fast.masks.sum((2, 3)) >= 10
    assert large.sum() >= 2 * NUM_FRAMES
    assert (both / either)[large].min() >= 0.9


def test_depth_agrees_with_the_fast_backend(clip, fast):
    inside = clip.masks.any(0) & fast.masks.any(0)
    assert (clip.depth_m - fast.depth_m)[inside].abs().quantile(0.9) < 2e-3


def test_forward_flow_is_the_projected_motion_in_both_components(clip):
    expected = rigid_flow(clip.depth_m, clip.masks, clip.poses, clip.camera)
    inside = clip.masks.any(0)[:-1]
    assert expected[1, inside[None].expand(1, -1, -1, -1)[0]].abs().max() > 3
    assert (clip.flow_px - expected)[:, inside].abs().max() < 0.02
    assert clip.flow_px[:, ~inside].abs().max() < 1e-3


def test_backward_flow_leads_to_where_the_point_was(clip):
    """p_k - p_(k-1) at the pixels of frame k: rebuilt by reversing the motion."""
    reverse = replace(clip.poses, position_m=clip.poses.position_m.flip(0))
    reverse = replace(reverse, quaternion=clip.poses.quaternion.flip(0))
    back = rigid_flow(clip.depth_m.flip(0), clip.masks.flip(1), reverse, clip.camera).flip(1)
    inside = clip.masks.any(0)[1:]
    assert (clip.backward_flow_px + back)[:, inside].abs().max() < 0.02


def test_depth_is_euclidean_and_the_floor_lies_at_zero(clip):
    points = unproject(clip.depth_m.double(), clip.camera)
    bottom = points[:, -1][~clip.masks.any(0)[:, -1]]
    assert bottom[:, 2].abs().max() < 0.01


def test_objects_project_where_their_masks_are(clip):
    centre = project(clip.poses.position_m[0, -1], clip.camera)
    y, x = torch.nonzero(clip.masks[-1, 0], as_tuple=True)
    assert (torch.stack([x, y], -1).double().mean(0) - centre).abs().max() < 4


def test_a_second_process_renders_the_same_bytes(clip):
    again = replace(KUBRIC, timeout_s=1799.0).make_clip(SEED, SPLIT, "again")[0]
    for key in ("video", "masks", "depth_m", "flow_px", "backward_flow_px"):
        assert torch.equal(getattr(clip, key), getattr(again, key)), key


@pytest.fixture(scope="module")
def description():
    scene, motion = draw_moving_scene(PRIOR, SEED, SPLIT, 64, 2, 8)
    hdri = choose_hdri(packaged_folder(PYTHON), scene.background, SPLIT)
    return describe(scene, motion.poses, 8, hdri, replace(KUBRIC.settings, samples=1))


def test_bad_assets_end_in_a_sentence_and_the_process_goes_on(description, tmp_path):
    renderer = Renderer(PYTHON, 600.0)
    empty, untextured = tmp_path / "empty.obj", tmp_path / "scan.obj"
    empty.write_text("v 0 0 0\n")
    (tmp_path / "scan.mtl").write_text("newmtl skin\nmap_Kd missing.png\n")
    triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n"
    untextured.write_text(f"mtllib scan.mtl\n{triangle}")
    first, *others = description["objects"]

    def broken(**changes):
        return description | {"objects": [first | changes, *others]}

    bad_sky = tmp_path / "sky.exr"
    bad_sky.write_bytes(b"not a picture")
    cases = {
        "empty.obj (holds no faces|cannot be imported)": broken(mesh=str(empty)),
        "nowhere.obj is not there": broken(mesh="/nowhere.obj"),
        "Missing textures: .*missing.png": broken(mesh=str(untextured), pattern=None),
        "HDRI /no.exr is not there": description
        | {"hdri": description["hdri"] | {"path": "/no.exr"}},
        "HDRI .*sky.exr": description | {"hdri": description["hdri"] | {"path": str(bad_sky)}},
    }
    for sentence, case in cases.items():
        with pytest.raises(PisaError, match=sentence):
            renderer.render(case)
    assert renderer.render(description)["rgb"].shape == (2, 64, 64, 3)
    renderer.stop()


def test_the_releases_dome_and_lights_are_rendered():
    prior = ReleasePrior(num_dropping=(1, 1), num_pile=(0, 0))
    made = {}
    for name, energy in (("lit", 100.0), ("dark", 0.0)):
        lit = replace(
            prior,
            key_energy_w=energy,
            fill_energy_w=energy,
            back_energy_w=energy,
            sun_energy=(energy / 100, energy / 100),
        )
        simulator = KubricSimulator(lit, num_frames=2, fps_hz=8, python=str(PYTHON))
        made[name] = simulator.make_clip(SEED, SPLIT, name)[0]
    assert made["lit"].masks[-1, 0].any()
    assert made["lit"].video.mean() > made["dark"].video.mean() + 0.01
    assert made["lit"].depth_m.max() < 60  # the dome ends before the sky
    assert made["lit"].video.std() > 0.1
