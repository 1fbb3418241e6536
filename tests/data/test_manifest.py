from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pisa.data.clip_io import write_clip
from pisa.data.manifest import (
    Manifest,
    clip_sha256,
    data_sha256,
    is_complete,
    list_clips,
    read_manifest,
    write_manifest,
)
from pisa.errors import PisaError
from pisa.types import Clip

Maker = Callable[[Path, int], Path]


def test_round_trip(tmp_path: Path) -> None:
    manifest = Manifest(("b", "a"), "c" * 64, {"a": 1, "b": 2}, {"a": "0"})
    write_manifest(tmp_path / "new", manifest)
    assert read_manifest(tmp_path / "new") == manifest
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["manifest.json"]


def test_clips_come_in_manifest_order(tmp_path: Path, clip: Clip) -> None:
    for name in ("a", "b", "c"):
        write_clip(tmp_path / "clips" / name, clip)
    write_manifest(tmp_path, Manifest(("c", "a")))
    assert [path.name for path in list_clips(tmp_path)] == ["c", "a"]


def test_unfinished_data_sets_are_not_complete(tmp_path: Path, clip: Clip) -> None:
    assert not is_complete(tmp_path)
    with pytest.raises(PisaError, match="no clips"):
        list_clips(tmp_path)
    write_clip(tmp_path / "clips" / "a", clip)
    assert not is_complete(tmp_path)
    with pytest.raises(PisaError, match="unfinished"):
        list_clips(tmp_path)
    write_manifest(tmp_path, Manifest(("a",)))
    assert is_complete(tmp_path)


def test_release_folders_need_no_manifest(tmp_path: Path, clip: Clip) -> None:
    for name in ("0001", "0000"):
        write_clip(tmp_path / name, clip)
    (tmp_path / ".0002.part").mkdir()
    (tmp_path / ".0002.part" / "clip_info.json").write_text("{}")
    assert is_complete(tmp_path)
    assert [path.name for path in list_clips(tmp_path)] == ["0000", "0001"]


def test_absent_clip_is_named(tmp_path: Path, data_set_maker: Maker) -> None:
    folder = data_set_maker(tmp_path / "set", 1)
    write_manifest(folder, Manifest(("0000", "0007")))
    with pytest.raises(PisaError, match="0007"):
        list_clips(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "clips": []}',
        '{"schema": 1, "clips": ["../up"], "config_sha256": "", "seeds": {}, "sha256": {}}',
        '{"schema": 1, "clips": [3], "config_sha256": "", "seeds": {}, "sha256": {}}',
        '{"schema": 1, "clips": ["a", "a"], "config_sha256": "", "seeds": {}, "sha256": {}}',
        '{"schema": 1, "clips": ["a"], "config_sha256": "", "seeds": [], "sha256": {}}',
    ],
)
def test_broken_manifests(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(PisaError):
        list_clips(tmp_path)


def test_names_are_checked_on_writing(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="plain name"):
        write_manifest(tmp_path, Manifest(("../a",)))


def test_hash_follows_content_not_place(tmp_path: Path, data_set_maker: Maker) -> None:
    first = data_set_maker(tmp_path / "first", 2)
    second = data_set_maker(tmp_path / "second", 2)
    assert data_sha256(first) == data_sha256(second)
    assert clip_sha256(first / "clips" / "0000") != clip_sha256(first / "clips" / "0001")
    info = second / "clips" / "0001" / "clip_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "caption": "x"}))
    assert data_sha256(first) != data_sha256(second)
