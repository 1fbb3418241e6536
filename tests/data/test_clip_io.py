from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pisa.data import clip_io
from pisa.data.clip_io import frame_indices, read_clip, write_clip
from pisa.errors import PisaError
from pisa.io import files
from pisa.types import Clip


def test_round_trip(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip, extra={"seed": 3, "objects": ["cube", "ball"]})
    read = read_clip(tmp_path / "0000", depth=True, flow=True)
    assert (read.video - clip.video).abs().mean() < 0.03
    assert read.masks.dtype == torch.bool and torch.equal(read.masks, clip.masks)
    assert (read.name, read.caption, read.fps_hz) == ("0000", "a cube falls", 16.0)
    assert (read.dropping_index, read.drop_height_m) == (1, 0.75)
    assert read.camera == clip.camera
    assert read.depth_m is not None and clip.depth_m is not None
    assert read.poses is not None and clip.poses is not None
    assert torch.equal(read.depth_m, clip.depth_m)
    assert torch.equal(read.poses.position_m, clip.poses.position_m)
    assert torch.equal(read.poses.quaternion, clip.poses.quaternion)
    info = json.loads((tmp_path / "0000" / "clip_info.json").read_text())
    assert (info["schema"], info["seed"], info["objects"]) == (1, 3, ["cube", "ball"])


def test_release_reads_what_we_write(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    mask = np.load(tmp_path / "0000" / "mask.npz")["mask"]
    assert mask.shape == (6, 2, 16, 16)
    assert np.array_equal(mask[:, 1] == 1, clip.masks[1].numpy())
    with Image.open(tmp_path / "0000" / "rgba_00005.jpg") as image:
        assert image.mode == "RGB" and image.size == (16, 16)


def test_truth_is_only_read_on_request(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    read = read_clip(tmp_path / "0000")
    assert read.depth_m is None and read.flow_px is None and read.poses is None


def test_flow_matches_the_frames_returned(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    every = read_clip(tmp_path / "0000", flow=True, num_frames=3)
    second = read_clip(tmp_path / "0000", flow=True, num_frames=3, frame_stride=2)
    assert every.flow_px is not None and second.flow_px is not None
    assert every.flow_px.shape == second.flow_px.shape == (2, 2, 16, 16)
    assert every.fps_hz == 16 and second.fps_hz == 8
    inside = every.masks[1, 0] & second.masks[1, 0]
    once, twice = every.flow_px[1, 0][inside], second.flow_px[1, 0][inside]
    assert (once > 0).all()  # falls: down is +y
    assert torch.allclose(twice, 2 * once, rtol=1e-3)
    assert (every.flow_px[:, 0][:, ~every.masks[:, 0].any(0)] == 0).all()


def test_writing_again_replaces(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    write_clip(tmp_path / "0000", replace(clip, caption="other", depth_m=None, poses=None))
    assert read_clip(tmp_path / "0000").caption == "other"
    assert not (tmp_path / "0000" / "truth.npz").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["0000"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [False, True])
def test_failure_midway_leaves_nothing_new(
    tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch, error, exists: bool
) -> None:
    if exists:
        write_clip(tmp_path / "0000", replace(clip, caption="old"))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(clip_io, "write_npz", fail)
    expected = PisaError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_clip(tmp_path / "0000", clip)
    if expected is PisaError:
        assert "No space left" in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == (["0000"] if exists else [])
    if exists:
        assert read_clip(tmp_path / "0000").caption == "old"


def test_old_clip_survives_a_failed_swap(
    tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "0000", replace(clip, caption="old"))
    real = os.replace

    def fail_on_new(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            raise OSError(30, "Read-only file system")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", fail_on_new)
    with pytest.raises(PisaError, match="Read-only"):
        write_clip(tmp_path / "0000", clip)
    assert [p.name for p in tmp_path.iterdir()] == ["0000"]
    assert read_clip(tmp_path / "0000").caption == "old"


def test_parent_that_is_a_file(tmp_path: Path, clip: Clip) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PisaError, match="cannot write"):
        write_clip(tmp_path / "file" / "0000", clip)


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "a\nb", "-x", "é", ""])
def test_names_must_be_plain(tmp_path: Path, clip: Clip, name: str) -> None:
    with pytest.raises(PisaError, match="plain name"):
        write_clip(Path(f"{tmp_path}/sub/{name}") if name else Path("/"), clip)


def test_inconsistent_clips_are_refused(tmp_path: Path, clip: Clip) -> None:
    assert clip.depth_m is not None and clip.camera is not None
    for broken in (
        replace(clip, masks=clip.masks[:, :-1]),
        replace(clip, masks=clip.masks[:0]),
        replace(clip, depth_m=clip.depth_m[:, :8]),
        replace(clip, masks=clip.masks[:1]),  # poses have two objects
        replace(clip, camera=replace(clip.camera, width=8)),
    ):
        with pytest.raises(ValueError):
            write_clip(tmp_path / "0000", broken)
    with pytest.raises(ValueError, match="fps"):
        write_clip(tmp_path / "0000", clip, extra={"fps": 3})
    assert not list(tmp_path.iterdir())


def test_frame_indices_follow_the_release() -> None:
    assert frame_indices(6, 16.0) == [0, 1, 2, 3, 4, 5]
    assert frame_indices(32, 16.0, 4, 2) == [0, 2, 4, 6]
    expected = [int(i * (120 / 16)) for i in range(10)]
    assert frame_indices(240, 120.0, 10, fps_hz=16.0) == expected
    assert frame_indices(20, 120.0, 10, fps_hz=16.0) == [0, 7, 15]
    for wrong in ((6, 16.0, 0), (6, 16.0, 1, 0), (6, 16.0, 1, 1, 32.0), (6, 16.0, 1, 2, 8.0)):
        with pytest.raises(PisaError):
            frame_indices(*wrong)


def test_too_few_frames(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    with pytest.raises(PisaError, match="too few"):
        read_clip(tmp_path / "0000", num_frames=7)
    assert read_clip(tmp_path / "0000", num_frames=7, allow_short=True).video.shape[1] == 6


def test_rescaling(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    read = read_clip(tmp_path / "0000", size=(8, 4))
    assert read.video.shape == (3, 6, 8, 4) and read.masks.shape == (2, 6, 8, 4)
    assert read.masks[0, 0].nonzero().tolist() == [[6, 0], [7, 0]]  # rows 13, 15; column 2
    with pytest.raises(PisaError, match="rescaled"):
        read_clip(tmp_path / "0000", size=(8, 8), depth=True)


def test_reading_is_fast(tmp_path: Path, clip: Clip) -> None:
    write_clip(tmp_path / "0000", clip)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        read_clip(tmp_path / "0000", depth=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # some 3 ms; guards against an accidental slow path
