"""Whatever is wrong with a clip folder, the error is one line and names the file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pisa.data.clip_io import read_clip, write_clip
from pisa.errors import PisaError
from pisa.types import Clip


@pytest.fixture
def folder(tmp_path: Path, clip: Clip) -> Path:
    write_clip(tmp_path / "0000", clip)
    return tmp_path / "0000"


def check_error(folder: Path, *parts: str) -> None:
    with pytest.raises(PisaError) as caught:
        read_clip(folder, depth=True, flow=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in (folder.name, *parts):
        assert part in message


def edit_info(folder: Path, **changes: object) -> None:
    path = folder / "clip_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["rgba_00003.jpg", "mask.npz", "truth.npz", "clip_info.json"])
def test_absent_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    check_error(folder, "00003" if name.endswith("jpg") else name)


def test_absent_last_frame(folder: Path) -> None:
    (folder / "rgba_00005.jpg").unlink()
    check_error(folder, "5 frames", "says 6")


def test_absent_folder_and_no_frames(folder: Path, tmp_path: Path) -> None:
    check_error(tmp_path / "0001", "clip_info.json")
    for frame in folder.glob("*.jpg"):
        frame.unlink()
    check_error(folder, "no frames")


@pytest.mark.parametrize("name", ["rgba_00003.jpg", "mask.npz", "truth.npz", "clip_info.json"])
@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, 0.95])
def test_truncated_files(folder: Path, name: str, keep: float) -> None:
    content = (folder / name).read_bytes()
    length = keep if isinstance(keep, int) else int(len(content) * keep)
    (folder / name).write_bytes(content[:length])
    check_error(folder, name)


@pytest.mark.parametrize("name", ["rgba_00003.jpg", "mask.npz", "truth.npz", "clip_info.json"])
def test_random_damage_never_escapes_as_another_error(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 8, 64])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (folder / name).write_bytes(bytes(damaged))
        try:
            clip = read_clip(folder, depth=True, flow=True)
        except PisaError as error:
            assert "\n" not in str(error)
        else:
            assert clip.video.shape == (3, 6, 16, 16)


@pytest.mark.parametrize(
    "change",
    [
        {"fps": "fast"},
        {"fps": 0},
        {"fps": True},
        {"fps": float("nan")},
        {"fps": 10**400},
        {"caption": 3},
        {"dropping_index": 2},
        {"dropping_index": "last"},
        {"drop_height_m": [1]},
        {"camera": "level"},
        {"camera": {"position_m": [0, 0]}},
        {"camera": {"position_m": [0, 0, 0], "focal_mm": -1, "sensor_mm": 32}},
        {"schema": 99},
        {"num_frames": 4},
    ],
)
def test_wrong_info(folder: Path, change: dict[str, object]) -> None:
    edit_info(folder, **change)
    check_error(folder, str(next(iter(change))).split("_")[-1])


@pytest.mark.parametrize("text", ["[]", "null", "3", "{", "[" * 100_000])
def test_info_must_be_an_object(folder: Path, text: str) -> None:
    (folder / "clip_info.json").write_text(text)
    check_error(folder, "clip_info.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m[:-1], "5 frames"),
        (lambda m: m[:, :, :8], "16x8"),
        (lambda m: m.astype(np.uint8) * 7, "largest value 7"),
        (lambda m: m.astype(np.uint8) * np.uint8(255) | m, None),
        (lambda m: m.astype(float) * 0.5, "0.5"),
        (lambda m: m.astype(str), "[T, N, H, W]"),
        (lambda m: m[0, 0], "[T, N, H, W]"),
        (lambda m: m[:, :0], "[T, N, H, W]"),
        (lambda m: m.astype(object), "Object arrays"),
        (lambda m: np.where(m, 1.0, np.nan), "nan"),
    ],
)
def test_wrong_masks(folder: Path, change: Callable, says: str | None) -> None:
    mask = change(np.load(folder / "mask.npz")["mask"])
    np.savez(folder / "mask.npz", mask=mask)
    if says is None:
        assert read_clip(folder).masks.any()
    else:
        check_error(folder, says)


def test_mixed_mask_values(folder: Path) -> None:
    mask = np.load(folder / "mask.npz")["mask"].astype(np.uint8) * 255
    mask[0, 0, 0, 0] = 1
    np.savez(folder / "mask.npz", mask=mask)
    check_error(folder, "mask.npz", "0 and 255 only")


def test_ambiguous_mask_archive(folder: Path) -> None:
    np.savez(folder / "mask.npz", a=np.zeros(3), b=np.zeros(3))
    check_error(folder, "mask.npz", "one array")


@pytest.mark.parametrize(
    "change",
    [
        {"depth_m": np.zeros((6, 16, 8), np.float16)},
        {"depth_m": np.zeros((6, 16, 16), np.int32)},
        {"position_m": np.zeros((6, 3, 3))},
        {"quaternion": None},
        {"depth_m": None},
    ],
)
def test_wrong_truth(folder: Path, change: dict) -> None:
    with np.load(folder / "truth.npz") as stored:
        arrays = {**stored, **change}
    np.savez(folder / "truth.npz", **{k: v for k, v in arrays.items() if v is not None})
    check_error(folder, "truth.npz", next(iter(change)))


def test_flow_without_camera(folder: Path) -> None:
    edit_info(folder, camera=None)
    check_error(folder, "camera")


def test_frames_of_two_sizes(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 12)).save(folder / "rgba_00002.jpg")
    check_error(folder, "rgba_00002.jpg", "16x12")
