"""`prior.assets=household`: installed scans, found where LIBERO's packages put them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pisa.errors import PisaError
from pisa.simulation import assets
from pisa.simulation.assets import asset_names, load_asset
from pisa.simulation.fast import FastSimulator
from pisa.simulation.scene import Prior

CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
FACES = ["1 2 4", "1 4 3", "5 7 8", "5 8 6", "1 5 6", "1 6 2", "3 4 8", "3 8 7", "1 3 7", "1 7 5"]
PRIOR = Prior(num_dropping=(1, 1), num_pile=(0, 0), assets="household", size_m=(0.2, 0.3))


def write_object(folder: Path, mesh: str, height: float, picture: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vertices = [f"v {x} {y} {z * height}" for x, y, z in CORNERS]
    faces = [f"f {' '.join(f'{i}/1' for i in face.split())}" for face in FACES]
    lines = [f"mtllib {mesh}.mtl", *vertices, "vt 0.5 0.5", "usemtl skin", *faces]
    (folder / f"{mesh}.obj").write_text("\n".join(lines) + "\n")
    (folder / f"{mesh}.mtl").write_text("newmtl skin\n" + "map_Kd texture_map.png\n" * picture)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "texture_map.png")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Ten objects that fall, and all that a library must leave out."""
    for i in range(10):
        kind = ("stable_hope_objects", "stable_scanned_objects")[i % 2]
        write_object(tmp_path / kind / f"thing_{i}", "textured", 1 + i / 10)
        (tmp_path / kind / f"thing_{i}" / f"thing_{i}_col.obj").write_text("v 0 0 0\n")
    write_object(tmp_path / "stable_hope_objects" / "red_thing_0", "model", 1.0)  # recoloured
    write_object(tmp_path / "stable_hope_objects" / "plain", "plain", 3, picture=False)
    for part in ("body", "handle"):
        write_object(tmp_path / "stable_scanned_objects" / "pot", part, 4)
    write_object(tmp_path / "turbosquid_objects" / "mug", "mug", 5)
    monkeypatch.setenv("PISA_HOUSEHOLD_DIR", str(tmp_path))
    cached = (assets._scans, asset_names, load_asset)
    for function in cached:
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def test_each_textured_scan_is_in_one_split(installed):
    train, test = asset_names("train", "household"), asset_names("test", "household")
    assert sorted(train + test) == [f"household:thing_{i}" for i in range(10)]
    assert len(test) == 1
    asset = load_asset(train[0])
    assert asset.textured and asset.path.name == "textured.obj" and len(asset.hull) == 8


def test_a_clip_of_scans_is_simulated_and_names_their_licences(installed):
    simulator = FastSimulator(PRIOR, 64, 3, fps_hz=8, samples=1)
    clip = simulator.make_clip(0, "train", "clip")[0]
    assert clip.masks[:, 0].any() and "CC BY-NC-SA" in simulator.licences()["objects"]
    red = clip.video[:, 0, clip.masks[0, 0]].mean(1)
    assert red[0] > red[1] + 0.2 and red[0] > red[2] + 0.2  # the picture is on the object


def test_what_is_not_there_is_one_sentence(installed, monkeypatch):
    with pytest.raises(PisaError, match="PISA_HOUSEHOLD_DIR has no object household:spoon"):
        load_asset("household:spoon")
    with pytest.raises(PisaError, match="exactly one of size_m and span_px"):
        replace(PRIOR, size_m=None)  # their meshes have no common unit
    assets._scans.cache_clear()
    monkeypatch.setenv("PISA_HOUSEHOLD_DIR", str(installed / "turbosquid_objects"))
    with pytest.raises(PisaError, match=r"fewer than two objects \(stable_"):
        assets._scans("household")
    monkeypatch.delenv("PISA_HOUSEHOLD_DIR")
    with pytest.raises(PisaError, match="set PISA_HOUSEHOLD_DIR to their folder"):
        assets._scans("household")
