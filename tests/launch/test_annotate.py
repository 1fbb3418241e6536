"""``annotate.py``: masks from points, beside the frames; what fails is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from pisa.data.clip_io import read_clip
from pisa.data.mask_coco import write_coco
from pisa.data.mask_files import read_masks
from pisa.data.mask_pictures import write_davis
from pisa.data.mask_video import MaskVideo
from pisa.errors import IncompleteError, PisaError
from pisa.launch import annotate as annotation
from pisa.launch.annotate import annotate_clip, has_masks
from pisa.launch.compose import compose_annotate
from pisa.perception.embedded_segmentation import EmbeddedTracker
from tests.annotate.colour import Colour
from tests.launch.conftest import CLIPS, SIZE, compose, falling, write_real


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for which, clip in enumerate(CLIPS):
        write_real(tmp_path / "real" / clip, which, masks=False)
    return tmp_path / "real"


def annotate(*overrides: str) -> None:
    annotation.annotate(compose_annotate(compose(*overrides, name="annotate")))


def annotate_by_colour(folder: Path) -> None:
    cfg = compose(f"path={folder}", "device=cpu", name="annotate")
    cfg.perception.tracker = {"_target_": "tests.annotate.colour.Colour"}
    annotation.annotate(compose_annotate(cfg))


def test_masks_are_written_and_read(clips: Path, capsys) -> None:
    annotate_by_colour(clips)
    truth = falling(1, 48)[1]
    clip = read_clip(clips / CLIPS[1])
    assert clip.dropping_index == 0  # the higher of the two points
    for index, expected in ((0, truth[:, 1]), (1, truth[:, 0])):
        mask = clip.masks[index].numpy()
        assert (mask & expected).sum() / (mask | expected).sum() > 0.9  # frames are JPEG
    assert "annotated 3 clips; 0 had masks already" in capsys.readouterr().out
    assert not list(clips.rglob("*.part"))


def test_finished_clips_are_left_alone(clips: Path) -> None:
    annotate_clip(clips / CLIPS[0], Colour())
    before = (clips / CLIPS[0] / "mask.npz").stat().st_mtime_ns
    annotate_by_colour(clips)
    assert (clips / CLIPS[0] / "mask.npz").stat().st_mtime_ns == before
    assert (clips / CLIPS[2] / "mask.npz").is_file()


def test_the_tracker_may_see_smaller_frames(clips: Path) -> None:
    annotate_clip(clips / CLIPS[0], Colour(), size=(32, 32))
    with np.load(clips / CLIPS[0] / "mask.npz") as stored:
        masks = stored["mask"]
    assert masks.shape == (48, 2, SIZE, SIZE) and masks.dtype == bool
    expected = falling(0, 48)[1][:, 1]
    assert (masks[:, 0] & expected).sum() / (masks[:, 0] | expected).sum() > 0.8


def test_one_bad_clip_does_not_stop_the_others(clips: Path, capsys) -> None:
    (clips / CLIPS[0] / "clip_info.json").write_text(json.dumps({"caption": "no points"}))
    with pytest.raises(IncompleteError, match="1 of 3 clips") as caught:
        annotate_by_colour(clips)
    assert caught.value.exit_code == 3
    assert f"failed: {CLIPS[0]}" in capsys.readouterr().err
    assert (clips / CLIPS[2] / "mask.npz").is_file()
    assert not (clips / CLIPS[0] / "mask.npz").exists()


@pytest.mark.parametrize("points", [[], [{"positive": []}], [{"negative": [[1, 1]]}], [[1, 2]], 7])
def test_wrong_points(clips: Path, points: object) -> None:
    info = clips / CLIPS[0] / "clip_info.json"
    info.write_text(json.dumps({"points": points}))
    with pytest.raises(PisaError, match=r"clip_info\.json"):
        annotate_clip(clips / CLIPS[0], Colour())


def test_the_embedded_tracker_takes_no_points(clips: Path) -> None:
    with pytest.raises(PisaError, match=r"takes no points; use perception=pretrained"):
        annotate(f"path={clips}", "perception=embedded")


@pytest.mark.parametrize("name", ["first.json", "drawn"])
def test_masks_are_a_prompt_of_every_tracker(clips: Path, name: str) -> None:
    """Also of one that takes no points; the second object is first seen in frame 5."""
    for which, clip in enumerate(CLIPS):
        truth = falling(which, 48)[1].astype(bool)
        drawn = truth[[0, 5]].copy()
        drawn[0, 1] = False
        write = write_coco if name == "first.json" else write_davis
        write(MaskVideo(drawn, (0, 5), ("rest", "ball")), clips / clip / name)
    annotate(f"path={clips}", "perception=embedded", f"prompt={name}", "device=cpu")
    for which, clip in enumerate(CLIPS):
        truth = falling(which, 48)[1].astype(bool)
        found = read_masks(clips / clip)
        assert not found[:5, 1].any()
        truth[:5, 1] = False
        assert (found & truth).sum() / (found | truth).sum() > 0.8


@pytest.mark.parametrize(
    ("video", "says"),
    [
        (MaskVideo(np.ones((1, 1, 8, 8), bool), (0,), ("a",)), "masks are 8x8 px, the frames 64"),
        (MaskVideo(np.ones((1, 1, 64, 64), bool), (48,), ("a",)), "in frame 48 of 48 frames"),
        (MaskVideo(np.zeros((1, 1, 64, 64), bool), (0,), ("a",)), r"object 1 \(a\) has no mask"),
    ],
)
def test_masks_that_cannot_be_a_prompt(clips: Path, video: MaskVideo, says: str) -> None:
    write_coco(video, clips / CLIPS[0] / "first.json")
    with pytest.raises(PisaError, match=says):
        annotate_clip(clips / CLIPS[0], EmbeddedTracker.from_pretrained(), masks="first.json")
    assert not has_masks(clips / CLIPS[0])


def test_a_tracker_without_windows_is_named(clips: Path) -> None:
    cfg = compose(f"path={clips}", "device=cpu", name="annotate")
    cfg.perception.tracker = {"_target_": "tests.launch.test_annotate.WholeClips"}
    with pytest.raises(PisaError, match="WholeClips cannot track in windows"):
        annotation.annotate(compose_annotate(cfg))


class WholeClips:
    """A tracker that may need all frames at once."""

    def segment(self, video: Tensor, first_masks: Tensor, tracked: slice) -> Tensor:
        return first_masks[:, tracked, None].float().expand(-1, -1, video.shape[2], -1, -1)


def test_a_folder_of_recordings_opens_the_page(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "drop.MOV").touch()
    served = []
    monkeypatch.setattr("pisa.annotate.page.server.serve", lambda *given: served.append(given))
    annotate(f"path={tmp_path}", "perception=embedded", "port=0")
    annotate(f"path={tmp_path}", "perception=pretrained", "port=0")
    (space, port, show, note), (_, _, _, of_sam2) = served
    assert (space.root, port, show) == (tmp_path, 0, True)
    assert "takes no points" in note and of_sam2 == ""
    assert space.recordings() == ["drop.MOV"] and space.tracker().size == (64, 64)


def test_the_page_or_the_masks_can_be_asked_for(clips: Path, monkeypatch) -> None:
    served = []
    monkeypatch.setattr("pisa.annotate.page.server.serve", lambda *given: served.append(given))
    annotate(f"path={clips}", "serve=true")
    assert len(served) == 1 and not (clips / CLIPS[0] / "mask.npz").exists()
    (clips / "drop.mp4").touch()
    with pytest.raises(PisaError, match="takes no points"):  # made masks, not the page
        annotate(f"path={clips}", "serve=false", "perception=embedded")
    assert len(served) == 1


@pytest.mark.parametrize("absent", ["nicegui", "fastapi"])  # NiceGUI brings FastAPI
def test_without_nicegui_one_sentence_says_what_to_install(
    absent: str, clips: Path, monkeypatch
) -> None:
    monkeypatch.delitem(sys.modules, "pisa.annotate.page.server", raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(PisaError, match=r"pip install 'pisa-lab\[annotate\]'"):
        annotate(f"path={clips}", "serve=true")


def test_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="path=DIR is needed"):
        annotate()
    with pytest.raises(PisaError, match="holds no clip"):
        annotate(f"path={tmp_path}")
    with pytest.raises(PisaError, match="is not a folder"):
        annotate(f"path={tmp_path / 'none'}", "serve=true")
