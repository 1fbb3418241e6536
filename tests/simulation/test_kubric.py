"""What of the Kubric backend can be tested without Blender."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pisa.errors import PisaError
from pisa.simulation.assets import _read_mesh, asset_names, kubric_split
from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.kubric.description import RenderSettings, describe
from pisa.simulation.kubric.hdris import Hdri, choose_hdri, packaged_folder
from pisa.simulation.kubric.process import Renderer, RendererDied
from pisa.simulation.kubric.simulator import KubricSimulator
from pisa.simulation.scene import Prior, draw_scene

PRIOR = Prior(num_dropping=(1, 2), num_pile=(0, 1))


def test_kubrics_split_gives_the_papers_numbers():
    for total, train, test in ((1033, 930, 103), (509, 458, 51)):
        parts = kubric_split([f"{i:04d}" for i in range(total)])
        assert (len(parts[0]), len(parts[1])) == (train, test)
        assert len(set(parts[0]) | set(parts[1])) == total


def test_a_description_is_json_and_says_what_the_fast_backend_draws():
    scene, motion = draw_moving_scene(PRIOR, 3, "train", 256, 3, 16)
    hdri = Hdri(Path("/sky.exr"), 1.0, 1.0)
    text = json.dumps(describe(scene, motion.poses, 16, hdri, RenderSettings()))
    read = json.loads(text)
    clip, _ = FastSimulator(PRIOR, 256, 3).make_clip(3, "train", "x")
    assert read["camera"]["position_m"] == list(clip.camera.position_m)
    assert read["objects"][-1]["position_m"] == clip.poses.position_m[:, -1].tolist()
    assert Path(read["objects"][0]["mesh"]).is_file()


def test_hdris_of_the_splits_are_disjoint(tmp_path):
    for i in range(20):
        (tmp_path / f"{i:02d}.exr").touch()
    chosen = {s: {choose_hdri(tmp_path, n, s).path for n in range(99)} for s in ("train", "test")}
    assert len(chosen["train"]) == 18 and len(chosen["test"]) == 2
    assert not chosen["train"] & chosen["test"]


def test_no_hdri_and_no_environment_are_one_sentence(tmp_path):
    with pytest.raises(PisaError, match="at least two HDRI"):
        choose_hdri(tmp_path, 0, "train")
    with pytest.raises(PisaError, match="make kubric-env"):
        packaged_folder(tmp_path / "bin/python")
    with pytest.raises(PisaError, match="make kubric-env"):
        KubricSimulator(PRIOR, python=str(tmp_path / "python")).make_clip(0, "train", "x")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "four finite vertices"),
        ("v 0 0 0\nv nan 0 1\nv 1 1 1\nv 2 0 1\n", "four finite vertices"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\n", "no volume"),
        ("v a b c\n", "broken"),
    ],
)
def test_a_broken_mesh_is_one_sentence(tmp_path, content, sentence):
    mesh = tmp_path / "broken.obj"
    mesh.write_text(content)
    with pytest.raises(PisaError, match=rf"broken\.obj: is broken: .*{sentence}|is broken"):
        _read_mesh("broken", mesh, False)


def test_an_absent_mesh_and_absent_scans_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(PisaError, match="cannot read"):
        _read_mesh("x", tmp_path / "x.obj", False)
    monkeypatch.delenv("PISA_GSO_DIR", raising=False)
    with pytest.raises(PisaError, match="PISA_GSO_DIR"):
        asset_names("train", "gso")


@pytest.mark.parametrize(
    "impossible",
    [{"region_m": 400.0}, {"drop_height_m": (90.0, 91.0)}, {"camera_height_m": (70.0, 71.0)}],
)
def test_settings_that_no_camera_can_see_are_one_sentence(impossible):
    with pytest.raises(PisaError, match="no camera position"):
        draw_scene(replace(PRIOR, **impossible), 0, "train", 256)


@pytest.mark.parametrize("wrong", [{"num_pile": (4, 0)}, {"assets": "shapenet"}])
def test_a_wrong_prior_is_refused(wrong):
    with pytest.raises(PisaError, match=r"prior\."):
        replace(Prior(), **wrong)


def fake_renderer(folder: Path, body: str) -> Renderer:
    """A renderer whose process is a few lines of Python instead of Blender."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}")
    script.chmod(0o755)
    return Renderer(script, 0.5)


GREETING = 'print(json.dumps({"versions": {"blender": "0"}}), flush=True)\n'


def test_a_renderer_that_crashes_or_hangs_is_reported_and_started_again(tmp_path):
    renderer = fake_renderer(tmp_path, GREETING + 'sys.stdin.readline(); sys.exit("out of memory")')
    for _ in range(2):
        with pytest.raises(RendererDied, match="ended: out of memory"):
            renderer.render({})
    renderer = fake_renderer(tmp_path, GREETING + "time.sleep(60)")
    with pytest.raises(RendererDied, match="no answer in"):
        renderer.render({})


def test_a_scene_error_of_the_renderer_is_one_sentence(tmp_path):
    body = GREETING + 'sys.stdin.readline(); print(json.dumps({"error": "mesh x is not there"}))'
    with pytest.raises(PisaError, match="cannot render this scene: mesh x is not there"):
        fake_renderer(tmp_path, body).render({})
