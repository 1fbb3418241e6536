"""From a recording to clip folders of the release's layout, without a page."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pisa.annotate.clip_folder import prepare_frames
from pisa.annotate.session import Mode, Session
from pisa.annotate.workspace import Stopped, Workspace
from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.reports.figures.real_clips import real_statistics
from tests.annotate import drawn
from tests.annotate.conftest import workspace

NAME = "drops.mp4"


@pytest.fixture
def session(space: Workspace) -> Session:
    session = Session(space)
    session.show(space.open(NAME))
    return session


def annotate(session: Session, which: int = 0) -> None:
    """Mark, point and describe one of the drops."""
    session.go(Mode.CUT)
    session.seek(drawn.RELEASES[which])
    session.mark()
    session.go(Mode.POINTS)
    session.click(drawn.X[which], drawn.TOP, True)
    session.describe("description", "a red disk")


def test_a_clip_from_recording_to_folder(folder: Path, footage) -> None:
    session = Session(workspace(folder, EmbeddedTracker.from_pretrained()))
    session.show(session.workspace.open(NAME))
    before = hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    annotate(session)
    session.describe("scene", "kitchen")
    space, clip = session.workspace, session.need_clip()
    space.track(clip)
    saved = space.save(clip)
    read = read_clip(saved)
    assert list_clips(folder) == [saved] and saved.name == "drops_01"
    assert (read.caption, read.fps_hz, read.dropping_index) == ("a red disk falls.", 120, 0)
    assert read.video.shape[1] == clip.num_frames
    part = np.s_[
        clip.start : clip.stop,
        clip.crop.top : clip.crop.top + clip.crop.side,
        clip.crop.left : clip.crop.left + clip.crop.side,
    ]
    truth, found = footage.disk[part], read.masks[0].numpy()
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(truth, found, strict=True)]
    assert np.mean(overlap) > 0.8
    error = np.abs((read.video.permute(1, 2, 3, 0).numpy() + 1) * 127.5 - footage.frames[part])
    assert np.median(error) < 6  # the frames are the right ones: neighbours differ at the disk
    assert (error.mean(axis=-1)[truth]).mean() < 25
    assert hashlib.sha256((folder / NAME).read_bytes()).hexdigest() == before
    assert real_statistics([saved]).scenes == {"kitchen": 1}
    assert space.is_saved(clip)
    session.describe("scene", "hall")
    assert not space.is_saved(session.need_clip())


def test_another_day_goes_on_where_it_was_left(session: Session, folder: Path) -> None:
    annotate(session)
    session.workspace.track(session.need_clip())
    later = Session(workspace(folder))
    later.show(later.workspace.open(NAME))
    later.next_clip(1)
    assert later.need_clip() == session.need_clip()
    assert later.workspace.masks(later.need_clip()) is not None
    later.undo()
    assert later.need_clip().description == ""


def test_new_points_make_the_masks_stale(session: Session) -> None:
    annotate(session)
    space = session.workspace
    space.track(session.need_clip())
    session.click(drawn.X[0] + 4, drawn.TOP, True)
    assert space.masks(session.need_clip()) is None
    with pytest.raises(PisaError, match="propagate"):
        space.save(session.need_clip())
    session.undo()
    assert space.masks(session.need_clip()) is not None


def test_a_clip_with_no_still_start_is_told_and_moved(session: Session) -> None:
    session.seek(drawn.RELEASES[0] + 25)
    session.mark()
    session.go(Mode.POINTS)
    y = drawn.height_px(drawn.RELEASES[0] + 25)
    session.click(drawn.X[0], y, True)
    session.workspace.track(session.need_clip())
    rest = session.workspace.checks(session.need_clip())[1]
    assert not rest.passed and "it moves already" in rest.says
    session.fix_start()
    assert session.need_clip().start == pytest.approx(drawn.RELEASES[0], abs=5)


def test_two_tabs_on_one_clip_lose_nothing(session: Session) -> None:
    annotate(session)
    other = Session(session.workspace)
    other.show(session.workspace.open(NAME))
    other.next_clip(1)
    session.describe("scene", "kitchen")
    other.click(drawn.X[0] + 3, drawn.TOP, True)  # other field: both are kept
    with pytest.raises(PisaError, match="objects of drops_01 changed in another tab"):
        session.click(drawn.X[0] - 3, drawn.TOP, True)
    assert "points" in session.changed_elsewhere()
    session.click(drawn.X[0] - 3, drawn.TOP, True)
    clip = session.need_clip()
    assert clip.scene == "kitchen" and len(clip.objects[0].clicks) == 3


@pytest.mark.parametrize("name", ["../outside.mp4", "/etc/passwd", "sub/deep.mp4", "link.mp4"])
def test_what_lies_outside_is_refused(space: Workspace, folder: Path, name: str) -> None:
    shutil.copy(folder / NAME, folder.parent / "outside.mp4")
    (folder / "sub").mkdir()
    shutil.copy(folder / NAME, folder / "sub" / "deep.mp4")
    os.symlink(folder.parent / "outside.mp4", folder / "link.mp4")
    with pytest.raises(PisaError, match="lies outside of"):
        space.open(name)


def test_somebody_elses_folder_is_not_replaced(session: Session, folder: Path) -> None:
    annotate(session)
    space, clip = session.workspace, session.need_clip()
    space.track(clip)
    foreign = folder / clip.name
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(PisaError, match="was not made here"):
        space.save(clip)
    assert (foreign / "notes.txt").read_text() == "mine"


def test_no_description_no_clip(session: Session) -> None:
    annotate(session)
    session.describe("description", "")
    session.workspace.track(session.need_clip())
    with pytest.raises(PisaError, match="no description"):
        session.workspace.save(session.need_clip())


def test_a_stopped_cut_leaves_no_half_folder(session: Session, tmp_path: Path) -> None:
    annotate(session)

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        prepare_frames(session.need_recording(), session.need_clip(), tmp_path / "half", None, stop)
    assert not list(tmp_path.glob("*half*"))


def test_broken_recordings_do_not_stop_the_others(space: Workspace, folder: Path) -> None:
    (folder / "text.mp4").write_text("this is text")
    (folder / "zero.mov").touch()
    assert space.recordings() == [NAME, "text.mp4", "zero.mov"]
    for name in ("text.mp4", "zero.mov"):
        with pytest.raises(PisaError, match=name):
            space.open(name)
    assert space.open(NAME).num_frames == drawn.NUM_FRAMES


def test_names_never_collide(session: Session, folder: Path) -> None:
    (folder / "drops_01").mkdir()
    for which in (0, 1):
        annotate(session, which)
    assert [c.name for c in session.clips.values()] == ["drops_02", "drops_03"]
    record = json.loads((folder / ".annotate" / "project.json").read_text())
    assert record["schema"] == 1
