"""The release's manifest: names, paths, annotations, and lines or files that are broken."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pisa.data.mask_files import read_mask_array
from pisa.data.mask_pairs import BrokenLine, MaskPair, load_pair, pairs_sha256, read_pairs
from pisa.errors import PisaError

LINE = {"gt_mask": "gt/0000/mask.npz", "gt_fps": 120, "pd_mask": "pd/0000/mask.npz", "pd_fps": 16}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def names(folder: Path, *masks: str) -> list[str]:
    return [
        pair.clip for pair in read_pairs(write(folder, *[LINE | {"pd_mask": m} for m in masks]))
    ]


def test_names_are_what_differs(tmp_path: Path) -> None:
    assert names(tmp_path, "g/real/0000/mask.npz", "g/real/0001/mask.npz") == ["0000", "0001"]
    assert names(tmp_path, "g/seen/00/mask.npz", "g/unseen/00/mask.npz") == ["seen", "unseen"]
    assert names(tmp_path, "g/seen/00/mask.npz", "g/unseen/01/mask.npz") == ["seen/00", "unseen/01"]
    assert names(tmp_path, "c00_pd.npy", "c01_pd.npy") == ["c00_pd", "c01_pd"]
    assert names(tmp_path, "a/b.npy", "a/b/c.npy") == ["b", "c"]
    assert names(tmp_path, "g/0007/mask.npz") == ["0007"]
    assert names(tmp_path, "x.npy", "x.npy", "y.npy") == ["x#1", "x#2", "y"]


def test_a_note_names_the_values_that_protocols_count_differently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pisa.data.mask_pairs._NOTED", set())
    np.save(tmp_path / "gt.npy", np.ones((3, 1, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "pd.npy", np.ones((3, 1, 8, 8), dtype=np.uint8) * 255)
    (pair,) = read_pairs(write(tmp_path, LINE | {"gt_mask": "gt.npy", "pd_mask": "pd.npy"}))
    assert isinstance(pair, MaskPair)
    load_pair(pair)
    load_pair(pair)
    said = capsys.readouterr().err
    assert said.count("note:") == 1 and "pd.npy holds 0 and 255" in said


def test_paths_and_points(tmp_path: Path) -> None:
    points = [{"positive": [[1, 2]], "negative": []}]
    (tmp_path / "info.json").write_text(json.dumps({"points": points}))
    gt = np.ones((3, 1, 4, 4), dtype=np.uint8) * 255
    np.savez(tmp_path / "gt.npz", mask=gt, other=np.zeros(3))
    np.save(tmp_path / "pd.npy", gt[:, 0] == 255)
    for annotation in ("info.json", str(tmp_path / "info.json"), {"points": points}, points):
        line = LINE | {"gt_mask": "gt.npz", "pd_mask": str(tmp_path / "pd.npy")}
        (pair,) = read_pairs(write(tmp_path, line | {"gt_annotation": annotation}))
        assert isinstance(pair, MaskPair)
        loaded = load_pair(pair)
        assert np.array_equal(loaded[0], gt) and loaded[0].dtype == np.uint8  # 255 stays 255
        assert loaded[1].dtype == bool and loaded[2] == points
    for annotation in (None, ""):
        (pair,) = read_pairs(write(tmp_path, LINE | {"gt_annotation": annotation}))
        assert isinstance(pair, MaskPair) and pair.annotation is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 of the manifest is not JSON"),
        ("[1]", "not a JSON object"),
        ({**LINE, "pd_mask": None}, "lacks pd_mask"),
        ({"gt_mask": "x"}, "lacks gt_fps, pd_mask, pd_fps"),
        ({**LINE, "gt_fps": 0}, "gt_fps must be a positive number"),
        ({**LINE, "pd_fps": "16"}, "pd_fps must be a positive number"),
        ({**LINE, "pd_mask": 7}, "pd_mask must be a path"),
    ],
)
def test_a_broken_line_is_one_entry(tmp_path: Path, line: object, problem: str) -> None:
    first, second, third = read_pairs(write(tmp_path, LINE, line, "", LINE | {"pd_mask": "z.npy"}))
    assert isinstance(first, MaskPair) and isinstance(third, MaskPair) and third.line == 4
    assert isinstance(second, BrokenLine) and problem in second.problem


def test_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="No such file"):
        read_pairs(tmp_path / "absent.jsonl")
    with pytest.raises(PisaError, match="holds no pairs"):
        read_pairs(write(tmp_path, ""))


def test_hash_follows_the_masks(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4)))
    pairs = read_pairs(write(tmp_path, LINE | {"gt_mask": "a.npy", "pd_mask": "a.npy"}))
    before = pairs_sha256(pairs)
    np.save(tmp_path / "a.npy", np.ones((2, 4, 4)))
    assert pairs_sha256(pairs) != before


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|b1", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_absurd_shapes_are_refused_unread(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    content = header((10**6, 10**6, 10**6)) + b"\x01" * 16
    if kind == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mask.npy", content)
    with pytest.raises(PisaError, match=r"declares .* GiB of masks"):
        read_mask_array(path)


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "objects", "flat"])
def test_broken_masks_are_named(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / f"m.{kind}"
    array = np.ones((3, 8, 8), dtype=bool)
    if damage == "objects":
        array = np.array([{"a": 1}], dtype=object)
    if damage == "flat":
        array = array.reshape(-1)
    np.save(path, array) if kind == "npy" else np.savez(path, mask=array)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"text, no array at all")
    with pytest.raises(PisaError, match=rf"m\.{kind}: "):
        read_mask_array(path)
