"""Recordings: frames where they belong, phones' habits, and files that are none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pisa.annotate.recording import even_index, import_recording
from pisa.errors import PisaError
from tests.annotate import drawn


def preview(recording, frame: int) -> np.ndarray:
    with Image.open(io.BytesIO(recording.preview(frame))) as image:
        return np.asarray(image)


def test_every_frame_is_found_again(recorded: Path, footage, tmp_path: Path) -> None:
    recording = import_recording(recorded, tmp_path / "work")
    assert (recording.num_frames, recording.size) == (drawn.NUM_FRAMES, drawn.SIZE)
    assert recording.native_fps_hz == pytest.approx(120)
    for frame in (0, 46, 80, 250, drawn.NUM_FRAMES - 1):
        shown = preview(recording, frame).astype(float)
        red = (shown[..., 0] - shown[..., 2]) * (np.arange(240) < 205)[:, None] > 80
        rows = np.flatnonzero(red.any(axis=1))
        assert (rows[0] + rows[-1]) / 2 == pytest.approx(drawn.height_px(frame), abs=1.5)


def test_the_second_time_nothing_is_decoded(recorded: Path, tmp_path: Path) -> None:
    first = import_recording(recorded, tmp_path / "work")
    stamp = (tmp_path / "work" / "frames.bin").stat().st_mtime_ns
    again = import_recording(recorded, tmp_path / "work")
    assert (tmp_path / "work" / "frames.bin").stat().st_mtime_ns == stamp
    assert again.preview(7) == first.preview(7)


def test_progress_goes_up_to_the_end(recorded: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    import_recording(recorded, tmp_path / "work", seen.append)
    assert seen == sorted(seen) and seen[-1] > 0.98


def test_a_phone_held_upright_is_shown_upright(tmp_path: Path, footage) -> None:
    path = drawn.write(tmp_path / "turned.mp4", footage.frames[:12])
    drawn.set_rotation(path)
    recording = import_recording(path, tmp_path / "work")
    assert recording.size == (drawn.SIZE[1], drawn.SIZE[0])
    expected = np.rot90(footage.frames[0], -1)  # the matrix turns by 90 degrees, clockwise
    difference = np.abs(preview(recording, 0).astype(float) - expected)
    assert np.median(difference) < 6


def test_variable_rate_becomes_even(tmp_path: Path, footage) -> None:
    times = [round(k * 1000 / 120) for k in range(60)]
    times = times[:30] + [t + 50 for t in times[30:]]  # six frames are lost
    path = drawn.write(tmp_path / "lost.mkv", footage.frames[40:100], times=times)
    recording = import_recording(path, tmp_path / "work")
    assert recording.num_frames == pytest.approx(66, abs=1)
    assert recording.index[20] == 20 and recording.index[-1] == 59
    assert len(set(recording.index)) == 60  # no frame is lost, some come twice


def test_slow_motion_saved_at_30_fps_is_120_fps(tmp_path: Path, footage) -> None:
    tags = {"com.android.capture.fps": "120.0"}
    path = drawn.write(tmp_path / "slow.mp4", footage.frames[:40], rate=30, tags=tags)
    recording = import_recording(path, tmp_path / "work")
    assert recording.slowdown == pytest.approx(4) and recording.rate_known
    assert (recording.num_frames, recording.native_fps_hz) == (40, pytest.approx(120))


@pytest.mark.parametrize("tags", [None, {"com.android.capture.fps": "nan"}])
def test_without_a_tag_the_rate_is_not_known(tmp_path: Path, footage, tags) -> None:
    path = drawn.write(tmp_path / "plain.mp4", footage.frames[:10], tags=tags)
    recording = import_recording(path, tmp_path / "work")
    assert recording.slowdown == 1 and not recording.rate_known


def test_240_fps_keeps_every_second_frame() -> None:
    assert even_index(np.arange(100) / 240, 120).tolist() == list(range(0, 100, 2))


def test_jitter_below_half_a_period_moves_nothing() -> None:
    jitter = np.random.default_rng(0).uniform(-0.4, 0.4, 50) / 120
    jitter[0] = 0
    assert even_index(np.arange(50) / 120 + jitter, 120).tolist() == list(range(50))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"this is text", "cannot read video"), (b"", "is empty"), (None, "truncated|cannot read")],
)
def test_what_is_no_video(content: bytes | None, says: str, recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    whole = recorded.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(PisaError, match=says) as caught:
        import_recording(path, tmp_path / "work")
    assert "broken.mp4" in str(caught.value)
    assert not (tmp_path / "work" / "index.npz").exists()
