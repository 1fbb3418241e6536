"""``pisa track``: from a video and masks in one of its frames to masks of all frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.data.mask_coco import write_coco
from pisa.data.mask_video import MaskVideo, read_npz
from pisa.errors import PisaError
from pisa.launch.track import scan, track_video, video_windows
from pisa.perception.embedded_segmentation import EmbeddedTracker
from tests.launch.conftest import falling, write_mp4

FPS_HZ = 120


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_mp4(tmp_path / "fall.mp4", falling(0, 48)[0], FPS_HZ)
    truth = falling(0, 48)[1].astype(bool)
    write_coco(MaskVideo(truth[3:4], (3,), ("rest", "ball")), tmp_path / "first.json")
    return tmp_path / "fall.mp4"


def test_masks_of_a_video_keep_frame_numbers_and_times(video: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "masks.npz"
    arguments = ["track", str(video), str(out), "--prompt", str(tmp_path / "first.json")]
    assert main([*arguments, "--perception", "embedded", "device=cpu"]) == 0
    assert "masks.npz: 2 objects in 48 frames" in capsys.readouterr().out
    found, truth = read_npz(out), falling(0, 48)[1].astype(bool)
    assert found.frames == tuple(range(48)) and found.objects == ("rest", "ball")
    assert found.times_s == pytest.approx([n / FPS_HZ for n in range(48)], abs=1e-4)
    assert not found.masks[:3].any()  # before the prompt
    both, either = found.masks[3:] & truth[3:], found.masks[3:] | truth[3:]
    assert both.sum() / either.sum() > 0.8


def test_windows_are_the_frames_of_the_video(video: Path) -> None:
    windows = list(video_windows(video))
    assert [len(window) for window in windows] == [8] * 6
    difference = np.concatenate(windows).astype(int) - falling(0, 48)[0]
    assert np.abs(difference).mean() < 4  # the codec's
    times_s, size = scan(video)
    assert len(times_s) == 48 and size == (64, 64)
    assert next(video_windows(video, (16, 32))).shape == (8, 16, 32, 3)


def test_faults_come_before_the_tracking(video: Path, tmp_path: Path) -> None:
    tracker, prompt = EmbeddedTracker.from_pretrained(), tmp_path / "first.json"
    with pytest.raises(PisaError, match=r"out\.txt: masks are written as \.npz"):
        track_video(video, tmp_path / "out.txt", prompt, tracker)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:-2000])
    with pytest.raises(PisaError, match=r"cut\.mp4"):
        track_video(cut, tmp_path / "out.npz", prompt, tracker)
    assert not list(tmp_path.glob("*out*"))
