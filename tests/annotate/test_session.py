"""The effects of keys and clicks, without a browser."""

from __future__ import annotations

import threading
import time
from unittest.mock import create_autospec

import pytest

from pisa.annotate.motion import Crop
from pisa.annotate.page.picture import crop_svg, points_svg, timeline_svg
from pisa.annotate.page.view import BINDINGS, Binding, View, binding_of, listed, parse_field
from pisa.annotate.session import Mode, Session
from pisa.annotate.store import Click, ClipDraft, ObjectDraft, check_clip
from pisa.annotate.workspace import Job, Worker, Workspace
from pisa.errors import PisaError
from tests.annotate import drawn


@pytest.fixture
def session(space: Workspace) -> Session:
    session = Session(space)
    session.show(space.open("drops.mp4"))
    return session


def test_a_recording_opens_at_its_first_release(session: Session) -> None:
    assert session.frame == pytest.approx(drawn.RELEASES[0], abs=4)
    session.next_release(1)
    assert session.frame == pytest.approx(drawn.RELEASES[1], abs=4)
    with pytest.raises(PisaError, match="no release moment was found there"):
        session.next_release(1)


def test_steps_end_at_the_ends(session: Session) -> None:
    session.step(-10_000)
    assert session.frame == 0
    session.step(10_000)
    assert session.frame == drawn.NUM_FRAMES - 1
    session.seek(drawn.RELEASES[0])
    session.mark()
    session.go(Mode.CHECK)
    session.step(10_000)  # now within the clip
    assert session.frame == session.need_clip().stop - 1


def test_a_clip_marked_at_a_release_ends_when_all_lies(session: Session) -> None:
    session.mark()
    assert session.need_clip().stop - session.frame in range(70, 120)
    session.seek(session.frame + 30)
    session.set_stop()
    assert session.need_clip().num_frames == 31


def test_a_clip_of_more_than_12_s_is_refused() -> None:
    check_clip(ClipDraft("a", "a.mp4", 0, 1440, Crop(0, 0, 64)))
    with pytest.raises(PisaError, match="at most 12 s"):
        check_clip(ClipDraft("a", "a.mp4", 0, 1441, Crop(0, 0, 64)))


def test_every_step_but_the_first_needs_a_clip(session: Session) -> None:
    for mode in (Mode.CROP, Mode.POINTS, Mode.CHECK):
        with pytest.raises(PisaError, match="choose or mark a clip first"):
            session.go(mode)
    assert session.mode is Mode.CUT


def test_objects_and_points_come_and_go(session: Session) -> None:
    session.mark()
    session.go(Mode.POINTS)
    session.click(drawn.X[0], drawn.TOP, True)
    session.add_object()
    session.click(57, 187, True)
    session.click(90, 100, False)
    session.unclick()
    assert [len(o.clicks) for o in session.need_clip().objects] == [1, 1]
    session.remove_object()
    assert (len(session.need_clip().objects), session.object) == (1, 0)
    with pytest.raises(PisaError, match="at least one object"):
        session.remove_object()
    session.undo()
    assert len(session.need_clip().objects) == 2


def test_a_point_outside_of_the_crop_is_refused(session: Session) -> None:
    session.mark()
    session.set_crop(Crop(0, 0, 100))
    session.go(Mode.POINTS)
    with pytest.raises(PisaError, match="outside of the crop"):
        session.click(drawn.X[0], drawn.TOP, True)


def test_a_point_in_a_later_frame_is_a_correction(session: Session) -> None:
    session.mark()
    session.go(Mode.POINTS)
    session.step(12)
    session.click(drawn.X[0], drawn.height_px(session.frame), True)
    assert session.need_clip().objects[0].clicks[0].frame == 12


def test_a_removed_clip_comes_back(session: Session) -> None:
    session.mark()
    clip = session.need_clip()
    session.remove_clip()
    assert session.clip is None and session.clips == {}
    assert session.undo() == f"removal of {clip.name}"
    assert list(session.clips.values()) == [clip]


def test_the_frame_rate_can_be_changed_until_there_are_clips(session: Session) -> None:
    session.set_fps(240)  # the file says 120, so it plays at half speed
    assert session.need_recording().native_fps_hz == pytest.approx(240)
    assert session.need_recording().num_frames == pytest.approx(drawn.NUM_FRAMES / 2, abs=1)
    session.mark()
    with pytest.raises(PisaError, match="fixed once a recording has clips"):
        session.set_fps(120)


def test_the_frame_rate_can_be_confirmed_at_any_time(session: Session) -> None:
    assert not session.need_recording().rate_known  # the file has no tag
    session.mark()
    clip = session.need_clip()
    session.go(Mode.POINTS)
    session.click(drawn.X[0], drawn.TOP, True)
    session.workspace.track(session.need_clip())
    checks = session.workspace.checks(session.need_clip())
    assert [check.name for check in checks if not check.passed] == ["120 fps"]
    session.set_fps(120)
    assert session.need_recording().rate_known and session.need_clip().start == clip.start
    assert all(check.passed for check in session.workspace.checks(session.need_clip()))


def test_a_key_is_bound_once_in_each_step() -> None:
    for mode in Mode:
        keys = [b.key for b in BINDINGS if b.mode in (None, mode)]
        assert len(keys) == len(set(keys))
    assert binding_of("M", Mode.CUT) == binding_of("m", Mode.CUT)
    assert binding_of("m", Mode.CROP) is None
    assert sum(len(listed(mode)) for mode in (None, *Mode)) == len(BINDINGS)


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: f"{binding.mode} {binding.key}")
def test_each_key_does_one_thing_that_the_page_can_do(binding: Binding) -> None:
    page = create_autospec(View, instance=True)  # an unknown method raises
    page.session = create_autospec(Session, instance=True, frame=7)
    binding.action(page)
    assert len(page.method_calls) == 1
    ((name, arguments, _),) = page.method_calls
    if name == "do":  # an edit of the session, with arguments that it takes
        action, *rest = arguments
        action(*rest)
        assert len(page.session.method_calls) == 1


@pytest.mark.parametrize(("text", "value"), [("", None), ("1.2", 1.2), ("1,2", 1.2)])
def test_lengths_are_read_with_point_or_comma(text: str, value: float | None) -> None:
    assert parse_field("drop_height_m", text) == value


def test_a_length_that_is_not_a_number_is_reported() -> None:
    with pytest.raises(PisaError, match="number of metres"):
        parse_field("drop_height_m", "tall")


def test_overlays_say_what_they_show() -> None:
    assert crop_svg(Crop(10, 20, 100), 0.5, (240, 320), True).count("<circle") == 4
    entry = ObjectDraft((Click(0, 60, 60, True), Click(0, 80, 60, False), Click(5, 60, 60, True)))
    clip = ClipDraft("<b>", "a.mp4", 0, 100, Crop(0, 0, 240), (entry,))
    shown = points_svg(clip, 0, 0, 240)
    assert shown.count("<circle") == 1 and shown.count("<path") == 2
    line = timeline_svg([0.0, 1.0, 4.0], [], {"c1": clip}, "c1")
    assert "<b>" not in line and "&lt;b&gt;" in line


def test_jobs_report_progress_errors_and_stops() -> None:
    begun, worker = threading.Event(), Worker()

    def broken(progress) -> None:
        raise PisaError("no such thing")

    def endless(progress) -> None:
        while True:
            begun.set()
            progress(0.5)

    job = worker.start("broken", broken)
    _wait(job)
    assert job.error == "no such thing"
    job = worker.start("endless", endless)
    assert worker.start("endless", endless) is job  # twice the key, once the work
    assert begun.wait(10)
    job.stop()
    _wait(job)
    assert job.error == "endless: stopped" and worker.current is None


def _wait(job: Job) -> None:
    for _ in range(1000):
        if job.done:
            return
        time.sleep(0.01)
    raise AssertionError("the job does not end")
