"""Folders as the release ships them: other frame names, mask files and annotations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pisa.data.clip_io import read_clip
from pisa.data.real import RealDataModule
from pisa.errors import PisaError
from pisa.types import ObjectPoints, collate


def square_masks(num_frames: int, size: int = 16) -> np.ndarray:
    masks = np.zeros((num_frames, 2, size, size), dtype=np.uint8)
    masks[:, 0, 1:5, 2:6] = 1
    masks[:, 1, 10:14, 2:6] = 1
    return masks


def make_release_clip(
    folder: Path, frame_name: str = "{:05d}.jpg", num_frames: int = 30, **info: object
) -> np.ndarray:
    folder.mkdir(parents=True)
    for i in range(num_frames):
        image = Image.new("RGB", (16, 16), (8 * i, 100, 50))
        image.save(folder / frame_name.format(i))
    masks = square_masks(num_frames)
    np.savez_compressed(folder / "mask.npz", mask=masks)
    (folder / "clip_info.json").write_text(json.dumps(info))
    return masks


POINTS = [
    {"positive": [[3, 12], [4, 11]], "negative": []},
    {"positive": [[3, 7], [4, 2]], "negative": [[0, 0]]},
    {"positive": [[3, 2]], "negative": []},
]


def test_real_clip(tmp_path: Path) -> None:
    masks = make_release_clip(tmp_path / "0", caption="a ball falls", points=POINTS[:2])
    clip = read_clip(tmp_path / "0")
    assert (clip.fps_hz, clip.caption, clip.dropping_index) == (120.0, "a ball falls", 1)
    assert clip.video.shape == (3, 30, 16, 16)
    assert np.array_equal(clip.masks.numpy(), np.moveaxis(masks, 1, 0) == 1)
    assert clip.camera is None and clip.drop_height_m is None


def test_points_of_the_dropping_object_are_at_the_size_that_is_read(tmp_path: Path) -> None:
    make_release_clip(tmp_path / "0", points=POINTS[:2])
    assert read_clip(tmp_path / "0").points == ObjectPoints(((3, 7), (4, 2)), ((0, 0),))
    small = read_clip(tmp_path / "0", size=(8, 8))
    assert small.points.positive == ((1.25, 3.25), (1.75, 0.75))
    assert collate([small, small]).clips(slice(1)).points == (small.points,)
    make_release_clip(tmp_path / "1")
    assert read_clip(tmp_path / "1").points is None


def test_ties_of_points_go_to_the_first(tmp_path: Path) -> None:
    make_release_clip(tmp_path / "0", points=[POINTS[2], POINTS[1]])
    assert read_clip(tmp_path / "0").dropping_index == 0


def test_simulated_clip_of_the_release(tmp_path: Path) -> None:
    make_release_clip(tmp_path / "0", "rgba_{:05d}.jpg", text="a video of an object dropping")
    clip = read_clip(tmp_path / "0", num_frames=4)
    assert (clip.fps_hz, clip.dropping_index) == (16.0, 1)
    assert clip.caption == "a video of an object dropping"


def test_fps_of_the_file_wins(tmp_path: Path) -> None:
    make_release_clip(tmp_path / "0", fps=240)
    assert read_clip(tmp_path / "0").fps_hz == 240


@pytest.mark.parametrize("kind", ["npy", "3d", "255", "bool", "one array", "png"])
def test_variants_read_alike(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "0"
    name = "{:05d}.png" if kind == "png" else "{:05d}.jpg"
    masks = make_release_clip(folder, name, num_frames=3)
    expected = np.moveaxis(masks, 1, 0) == 1
    if kind == "npy":
        (folder / "mask.npz").unlink()
        np.save(folder / "mask.npy", masks)
    elif kind == "3d":
        np.savez(folder / "mask.npz", mask=masks[:, 1])
        expected = expected[1:]
    elif kind in ("255", "bool", "one array"):
        stored = {"255": masks * 255, "bool": masks == 1, "one array": masks}[kind]
        np.savez(folder / "mask.npz", **{"arr_0" if kind == "one array" else "mask": stored})
    assert np.array_equal(read_clip(folder).masks.numpy(), expected)


@pytest.mark.parametrize("points", [POINTS, "none", [{"positive": []}] * 2, [{}, {}], [[1, 2]]])
def test_wrong_points(tmp_path: Path, points: object) -> None:
    make_release_clip(tmp_path / "0", points=points)
    with pytest.raises(PisaError, match="points"):
        read_clip(tmp_path / "0")


def test_real_data_module(tmp_path: Path) -> None:
    for i in range(3):
        folder = tmp_path / "real" / f"{i:04d}"
        make_release_clip(folder, num_frames=30 + 10 * i, points=POINTS[:2], caption=f"clip {i}")
    module = RealDataModule(tmp_path, num_frames=5, size=(8, 8))
    module.prepare_data()
    module.setup("test")
    (loader,) = module.test_dataloader()
    batches = list(loader)
    assert [b.names for b in batches] == [("0000",), ("0001",), ("0002",)]
    assert [b.video.shape[2] for b in batches] == [4, 5, 5]  # 30 frames at 120 Hz: 4 at 16 Hz
    assert batches[0].fps_hz == 16.0 and batches[1].captions == ("clip 1",)
    assert torch.isnan(batches[0].drop_height_m).all()
    full = read_clip(tmp_path / "real" / "0001", size=(8, 8))
    assert torch.allclose(batches[1].video[0, :, 1], full.video[:, 7])  # floor(1 * 120 / 16)


def test_absent_real_clips_say_what_to_fetch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(PisaError) as caught:
        RealDataModule(tmp_path).prepare_data()
    assert "real.zip" in str(caught.value) and str(tmp_path / "real") in str(caught.value)


def test_real_clip_without_masks_points_to_annotate(tmp_path: Path) -> None:
    make_release_clip(tmp_path / "0", points=POINTS[:2])
    (tmp_path / "0" / "mask.npz").unlink()
    with pytest.raises(PisaError, match=r"annotate\.py"):
        read_clip(tmp_path / "0")
