"""The columns beside the picture: recordings and clips, and a panel for each of the four steps."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, run, ui

from pisa.annotate.check_pictures import COLOURS, picture
from pisa.annotate.checks import Check
from pisa.annotate.motion import leaves
from pisa.annotate.page.view import View
from pisa.annotate.recording import FPS_HZ, Recording
from pisa.annotate.session import Mode
from pisa.annotate.store import ClipDraft
from pisa.annotate.workspace import Job
from pisa.errors import PisaError

_TITLES = {
    Mode.CUT: "1 Cut",
    Mode.CROP: "2 Crop",
    Mode.POINTS: "3 Points",
    Mode.CHECK: "4 Check",
}


class Panels:
    """The tabs of the four steps, and the panel of the one that is open."""

    def __init__(self, page: View) -> None:
        self.page = page
        with ui.column().classes("right gap-0"):
            with ui.row().classes("tabs w-full no-wrap gap-0"):
                self.tabs = {
                    mode: ui.button(title, on_click=lambda _, mode=mode: page.go(mode)).props(
                        "flat no-caps dense"
                    )
                    for mode, title in _TITLES.items()
                }
            self.column = ui.column().classes("panel w-full gap-2")

    def draw(self) -> None:
        session = self.page.session
        for mode, button in self.tabs.items():
            button.classes(remove="open")
            if mode is session.mode:
                button.classes("open")
        self.page.typing = False
        self.column.clear()
        with self.column:
            if session.recording is None:
                ui.label("Choose a recording on the left (R: the next one).")
                return
            _DRAW[session.mode](self.page)


def _cut(page: View) -> None:
    session = page.session
    recording = session.need_recording()
    height, width = recording.size
    seconds = recording.num_frames / FPS_HZ
    ui.label(
        f"{width}x{height} px, {recording.native_fps_hz:.0f} fps, {seconds:.1f} s"
        + (f", plays {recording.slowdown:.3g} x slower" if recording.slowdown != 1 else "")
    )
    found = len(page.workspace.releases(recording.path.name))
    ui.label(f"{found} release moments found (green marks)")
    with ui.row().classes("gap-1"):
        _button("← release", "P", lambda: page.do(session.next_release, -1))
        _button("release →", "N", lambda: page.do(session.next_release, 1))
    _button("mark a clip here", "M", lambda: page.do(session.mark), primary=True)
    clip = session.clip
    if clip is not None:
        ui.separator()
        ui.label(f"{clip.name}: {clip.num_frames / FPS_HZ:.2f} s, at most 12 s").classes("strong")
        with ui.row().classes("gap-1"):
            _button("begin here", "B", lambda: page.do(session.set_start))
            _button("end here", "E", lambda: page.do(session.set_stop))
        with ui.row().classes("gap-1"):
            _button("remove", "Del", lambda: page.do(session.remove_clip))
            _button("crop it →", "2", lambda: page.go(Mode.CROP), primary=True)
    _rate(page, recording)


def _rate(page: View, recording: Recording) -> None:
    """Ask at what rate the recording was captured where no tag of the file says so."""
    if recording.rate_known and page.session.clips:
        return
    ui.separator()
    if recording.rate_known:
        ui.label("Captured at another rate? Phones may save slow motion slowed down.").classes(
            "small"
        )
    else:
        ui.label(
            "The file does not say at what rate it was captured. Phones may save slow motion "
            "slowed down: check the phone's setting, then confirm or correct the rate."
        ).classes("problem")
    with ui.row().classes("gap-1 items-center no-wrap"):
        field = ui.number(value=round(recording.native_fps_hz), suffix="fps").props("dense")
        field.mark("fps")
        _button(
            "confirm", "", lambda: _set_fps(page, field.value), primary=not recording.rate_known
        )


def _set_fps(page: View, fps_hz: float | None) -> None:
    if fps_hz:
        page.do(page.session.set_fps, fps_hz)


def _crop(page: View) -> None:
    clip = page.session.need_clip()
    crop = clip.crop
    ui.label("Drag the square, or its corners. The object must stay inside for the whole fall.")
    ui.label(f"{crop.side} x {crop.side} px at ({crop.left}, {crop.top})").classes("strong")
    with ui.row().classes("gap-1"):
        _button("smaller", "-", lambda: page.grow_crop(-8))
        _button("larger", "+", lambda: page.grow_crop(8))
    _button("around what moves", "G", page.suggest_crop)
    masks = page.workspace.masks(clip)
    if masks is None:
        ui.label("Propagate the points to see whether the object stays inside.").classes("small")
    else:
        _crop_warning(page, clip, leaves(masks[:, page.workspace.dropping(clip)]))
    _button("set points →", "3", lambda: page.go(Mode.POINTS), primary=True)


def _crop_warning(page: View, clip: ClipDraft, bad: list[int]) -> None:
    if not bad:
        ui.label("The falling object stays inside in all frames.").classes("good")
        return
    ui.label(
        f"The falling object touches the edge or is lost in {len(bad)} frames, first in "
        f"frame {bad[0]}. Make the crop larger, or end the clip before."
    ).classes("problem")
    _button("show that frame", "", lambda: page.seek(clip.start + bad[0]))


def _points(page: View) -> None:
    session = page.session
    clip = session.need_clip()
    ui.label().classes("small").bind_text_from(session, "frame", lambda _: _hint(page))
    for index, entry in enumerate(clip.objects):
        positive = sum(c.positive for c in entry.clicks)
        text = f"object {index + 1}: {positive} on, {len(entry.clicks) - positive} beside"
        chosen = "chosen" if index == session.object else ""
        with (
            ui.row()
            .classes(f"entry w-full no-wrap items-center gap-2 {chosen}")
            .on("click", lambda _, by=index - session.object: page.do(session.next_object, by))
        ):
            ui.element("div").classes("dot").style(f"background: {COLOURS[index % len(COLOURS)]}")
            ui.label(text)
    with ui.row().classes("gap-1"):
        _button("object", "A", lambda: page.do(session.add_object), icon="add")
        _button("object", "X", lambda: page.do(session.remove_object), icon="remove")
        _button("point", "⌫", lambda: page.do(session.unclick), icon="backspace")
    _field(page, "description", clip.description, "description", "a red ball")
    ui.label().classes("small").bind_text_from(
        session, "clip", lambda c: f"caption: {c.caption}" if c and c.description else ""
    )
    with ui.row().classes("gap-1"):
        _button("preview", "V", page.preview)
        _button("propagate", "T", page.track, primary=True)
    ui.label(page.tracker_note).classes("small")
    _button("check →", "4", lambda: page.go(Mode.CHECK))


def _hint(page: View) -> str:
    """The effect of a click in the frame on show."""
    session = page.session
    at = session.frame - session.clip.start if session.clip else 0
    if at:
        return f"Frame {at}: points set here correct the mask from this frame on."
    return (
        "First frame: click on each object, right-click (or Shift) beside it. All objects, also "
        "those that lie."
    )


def _check(page: View) -> None:
    clip = page.session.need_clip()
    with ui.row().classes("w-full no-wrap gap-2"):
        _field(page, "description", clip.description, "description", "a red ball")
        _field(page, "scene", clip.scene, "scene", "kitchen")
    with ui.row().classes("w-full no-wrap gap-2 items-end"):
        _field(page, "drop_height_m", clip.drop_height_m, "drop height, m (if measured)", "1.20")
        _button("save", "S", page.save, primary=True)
    box = ui.column().classes("checks w-full gap-1")
    if page.workspace.has_masks(clip):
        with box:
            ui.label("measuring …").classes("small")
        background_tasks.create(_fill_checks(page, box))
    else:
        with box:
            ui.label("Checks need masks: propagate the points first.").classes("problem")
            _button("back to the points", "3", lambda: page.go(Mode.POINTS))


async def _fill_checks(page: View, box: ui.column) -> None:
    """Numbers and pictures of the checks."""
    clip = page.session.need_clip()

    def measure() -> tuple[list[Check], list[bytes]]:
        evidence = page.workspace.evidence(clip)
        checks = page.workspace.checks(clip)
        return checks, [picture(check, evidence) for check in checks]

    try:
        measured = await run.io_bound(measure)
    except PisaError as error:
        if not box.is_deleted:
            with box:
                ui.label(str(error)).classes("problem")
        return
    if box.is_deleted or measured is None:  # another panel is open, or the server ends
        return
    checks, pictures = measured
    box.clear()
    with box:
        if not checks[1].passed:
            _button("start at the measured release", "F", page.fix_start)
        for check, png in zip(checks, pictures, strict=True):
            _show_check(check, png)


def _show_check(check: Check, png: bytes) -> None:
    mark, kind = ("✓", "good") if check.passed else ("✗", "problem")
    digits = 2 if abs(check.value) < 10 else 0
    value = f"{check.value:.{digits}f} {check.unit}"
    if check.value != check.value:
        value = "not measured"
    with ui.expansion(value=not check.passed).classes("check w-full").props("dense") as box:
        with box.add_slot("header"), ui.column().classes("w-full gap-0"):
            with ui.row().classes("w-full no-wrap justify-between"):
                ui.label(f"{mark} {check.name}").classes(kind)
                ui.label(value).classes("strong")
            ui.label(f"{check.says} (wanted: {check.limit})").classes("small")
        ui.image(f"data:image/png;base64,{base64.b64encode(png).decode()}").classes("plot")


def _field(page: View, name: str, value: object, label: str, example: str) -> None:
    """A text or number field; what is typed counts when the field is left (or Enter)."""

    def leave() -> None:
        page.typing = False
        page.commit(name, field.value)

    field = ui.input(label, value="" if value is None else str(value), placeholder=example)
    field.props("dense").classes("w-full").mark(name)
    field.on("focus", lambda: setattr(page, "typing", True))
    field.on("blur", leave)
    field.on("keydown.enter", js_handler="(e) => e.target.blur()")
    field.on("keydown.esc", js_handler="(e) => e.target.blur()")


def _button(
    text: str,
    key: str,
    action: Callable[..., Any],
    *,
    primary: bool = False,
    icon: str | None = None,
) -> None:
    look = "unelevated" if primary else "outline"
    with ui.button(text, on_click=action, icon=icon).props(f"{look} dense no-caps"):
        if key:
            ui.label(key).classes("kbd")


_DRAW = {Mode.CUT: _cut, Mode.CROP: _crop, Mode.POINTS: _points, Mode.CHECK: _check}


class SideBar:
    """Drawn into a column of its own; progress is updated without redrawing the rest."""

    def __init__(self, page: View) -> None:
        self.page = page
        self.column = ui.column().classes("side gap-0")

    def draw(self) -> None:
        root = str(self.page.workspace.root)
        self.column.clear()
        with self.column:
            with ui.row().classes("w-full items-center justify-between no-wrap"):
                ui.label("Own real clips").classes("brand")
                ui.button("?", on_click=self.page.help).props("flat dense round size=sm").tooltip(
                    "keys"
                )
            ui.label(root).classes("small ellipsis").tooltip(root)
            ui.label("RECORDINGS").classes("title")
            _recordings(self.page)
            ui.label("CLIPS OF THIS RECORDING").classes("title")
            _clips(self.page)
            ui.space()
            self.box = ui.column().classes("w-full gap-0 job")
            with self.box:
                self.title = ui.label().classes("small")
                with ui.row().classes("w-full no-wrap items-center gap-1"):
                    self.bar = ui.linear_progress(show_value=False).props("rounded")
                    ui.button("stop", on_click=self.page.stop_job).props("flat dense size=sm")
        self.draw_progress(self.page.running)

    def draw_progress(self, job: Job | None) -> None:
        self.box.set_visibility(job is not None)
        if job is not None:
            self.title.set_text(f"{job.title} … {100 * job.fraction:.0f} %")
            self.bar.set_value(job.fraction)


def _recordings(page: View) -> None:
    names = page.workspace.recordings()
    if not names:
        ui.label("There is no video file in the folder.").classes("small")
    shown = page.session.recording.path.name if page.session.recording else ""
    with ui.column().classes("list gap-0 w-full"):
        for name in names:
            problem = page.problems.get(name)
            chosen = "chosen" if name == shown else ""
            with (
                ui.element("div")
                .classes(f"entry {chosen}")
                .on("click", lambda _, name=name: page.open(name))
            ):
                ui.label(name).classes("ellipsis")
                if problem:
                    ui.label(problem).classes("problem")


def _clips(page: View) -> None:
    clips = page.session.clips
    if not clips:
        ui.label("none yet: go to a release (N), mark it (M)").classes("small")
    with ui.column().classes("list gap-0 w-full"):
        for key, clip in clips.items():
            chosen = "chosen" if key == page.session.key else ""
            with (
                ui.element("div")
                .classes(f"entry {chosen}")
                .on("click", lambda _, key=key: page.do(page.session.choose, key))
            ):
                ui.label(clip.name).classes("ellipsis")
                ui.label(_state(page, clip)).classes("small")


def _state(page: View, clip: ClipDraft) -> str:
    text = f"{clip.start / FPS_HZ:.2f} s, {clip.num_frames / FPS_HZ:.2f} s long"
    if page.workspace.is_saved(clip):
        return text + " · saved"
    if page.workspace.has_masks(clip):
        return text + " · tracked"
    return text + (" · points" if any(entry.clicks for entry in clip.objects) else "")
