from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pisa.errors import PisaError
from pisa.ops.video import (
    from_frames,
    from_uint8,
    read_video,
    resize,
    to_frames,
    to_uint8,
    write_mp4,
)


def moving_square(num_frames: int = 8, height: int = 32, width: int = 48) -> np.ndarray:
    frames = np.full((num_frames, height, width, 3), 30, dtype=np.uint8)
    for t in range(num_frames):
        frames[t, 4 + t : 16 + t, 8:20] = (220, 180, 60)
    return frames


def test_every_uint8_survives_the_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(values)), values)
    assert from_uint8(values)[[0, -1]].tolist() == [-1.0, 1.0]


def test_to_uint8_clamps_and_rounds() -> None:
    video = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, float("nan")])
    assert to_uint8(video).tolist() == [0, 0, 128, 255, 255, 0]


def test_frames_and_clip_are_inverse() -> None:
    frames = moving_square()
    video = from_frames(frames)
    assert video.shape == (3, 8, 32, 48)
    assert np.array_equal(to_frames(video), frames)


def test_resize_keeps_constants_and_lead_axes() -> None:
    video = torch.full((2, 3, 4, 32, 16), 0.25)
    small = resize(video, 8, 8)
    assert small.shape == (2, 3, 4, 8, 8)
    assert torch.allclose(small, torch.tensor(0.25))
    assert resize(video, 32, 16) is video


@pytest.mark.parametrize("fps_hz", [16.0, 120.0, 29.97])
def test_mp4_round_trip(tmp_path: Path, fps_hz: float) -> None:
    frames = moving_square()
    write_mp4(tmp_path / "a.mp4", frames, fps_hz)
    read, rate = read_video(tmp_path / "a.mp4")
    assert read.shape == frames.shape and read.dtype == np.uint8
    assert rate == pytest.approx(fps_hz, rel=1e-3)
    assert np.abs(read.astype(int) - frames).mean() < 6


def test_mp4_of_odd_size_is_padded(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving_square(height=31, width=47), 16)
    assert read_video(tmp_path / "a.mp4")[0].shape[1:3] == (32, 48)


def test_write_mp4_refuses_wrong_arrays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_mp4(tmp_path / "a.mp4", moving_square().astype(np.float32), 16)
    with pytest.raises(ValueError, match="uint8"):
        write_mp4(tmp_path / "a.mp4", moving_square(num_frames=0), 16)


def test_unwritable_place_is_a_pisa_error(tmp_path: Path) -> None:
    (tmp_path / "nowhere").touch()  # a file
    with pytest.raises(PisaError, match="nowhere"):
        write_mp4(tmp_path / "nowhere" / "a.mp4", moving_square(), 16)


@pytest.mark.parametrize("content", [None, b"", b"no video at all", b"\0" * 4000])
def test_broken_videos_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PisaError, match=r"broken\.mp4"):
        read_video(path)


def test_truncated_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_mp4(path, moving_square(), 16)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(PisaError, match=r"cut\.mp4"):
        read_video(path)
