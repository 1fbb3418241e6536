"""Names out of files never lead out of the folder they belong to."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from pisa.bench.match import match_videos
from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, list_clips, read_manifest, write_manifest
from pisa.data.released import unpack
from pisa.errors import PisaError
from pisa.io.weights import find
from tests.launch.conftest import stage_folder
from tests.security.test_allow_list import CONFIGS, hydra

LEADING_OUT = ("../evil", "/tmp/evil", "..", ".", "", "a/b", "a\\b", ".hidden", "a\0b", "~root")


@pytest.mark.parametrize("name", LEADING_OUT)
def test_clip_names_of_a_manifest(name, tmp_path):
    write_manifest(tmp_path, Manifest(("a",)))
    record = json.loads((tmp_path / "manifest.json").read_text()) | {"clips": [name]}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    for read in (read_manifest, list_clips):
        with pytest.raises(PisaError, match="plain name"):
            read(tmp_path)
    with pytest.raises(PisaError, match="plain name"):
        write_manifest(tmp_path / "new", Manifest((name,)))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [n for n in LEADING_OUT if Path(n).name == n and n])
def test_names_of_clips_that_are_written(name, tmp_path):
    with pytest.raises(PisaError, match="plain name"):
        write_clip(tmp_path / name, None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_members_of_an_archive_stay_in_the_folder(tmp_path):
    """Folders above a clip are dropped; absolute, climbing and linking members write nothing."""
    archive, target = tmp_path / "real.zip", tmp_path / "deep" / "real"
    target.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("0000/clip_info.json", "0000/00000.jpg"):
            opened.writestr(name, b"{}")
        for name in ("../../evil.txt", "/tmp/evil.txt", "../0001/../../evil.jpg", "../00000.jpg"):
            opened.writestr(name, b"evil")
        opened.writestr("../../0002/clip_info.json", b"{}")
        opened.writestr("../../0002/00000.jpg", b"x")
        link = zipfile.ZipInfo("0000/00001.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link
        opened.writestr(link, "/etc/passwd")
    unpack(archive, target)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    clips = {f"deep/real/{c}" for c in ("0000/clip_info.json", "0000/00000.jpg", "0000/00001.jpg")}
    clips |= {"deep/real/0002/clip_info.json", "deep/real/0002/00000.jpg"}
    assert files == clips | {"real.zip"}
    assert not (target / "0000" / "00001.jpg").is_symlink()


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", 3])
def test_shards_of_a_checkpoint_lie_beside_their_index(shard, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.safetensors").touch()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(PisaError, match="not a file beside it"):
        find(folder)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", ".."])
def test_the_name_of_an_experiment(name):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", ["experiment=psft", f"name={name}", "run_dir=x"])
    with pytest.raises(PisaError, match="plain name"):
        stage_folder(cfg, "psft")


def test_videos_are_matched_by_their_own_names_only(tmp_path):
    """A benchmark whose clip has a climbing name finds nothing outside the folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "evil.mp4").touch()
    (tmp_path / "in" / "good.mp4").touch()
    matches = match_videos(tmp_path / "in", ["good", "../evil"])
    found = [sample.path for sample in matches.samples if sample.path is not None]
    assert found == [tmp_path / "in" / "good.mp4"]
    assert os.listdir(tmp_path / "in") == ["good.mp4"]
