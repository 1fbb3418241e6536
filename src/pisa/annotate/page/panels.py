"""The right column: one panel for each of the four steps."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from nicegui import run, ui

from pisa.annotate.check_pictures import COLOURS, picture
from pisa.annotate.checks import Check
from pisa.annotate.crop import leaves
from pisa.annotate.recording import FPS_HZ, Recording
from pisa.annotate.session import Mode
from pisa.annotate.store import ClipDraft
from pisa.types import PisaError

if TYPE_CHECKING:
    from pisa.annotate.page.view import View

_TITLES = {
    Mode.CUT: "1 Cut",
    Mode.CROP: "2 Crop",
    Mode.POINTS: "3 Points",
    Mode.CHECK: "4 Check",
}


def tabs(view: View) -> None:
    with ui.row().classes("tabs w-full no-wrap gap-0"):
        view.tabs = {
            mode: ui.button(title, on_click=lambda _, mode=mode: view.go(mode)).props(
                "flat no-caps dense"
            )
            for mode, title in _TITLES.items()
        }


def draw(view: View) -> None:
    for mode, button in view.tabs.items():
        button.classes(remove="open")
        if mode is view.session.mode:
            button.classes("open")
    view.typing = False
    view.panel.clear()
    with view.panel:
        if view.session.recording is None:
            ui.label("Choose a recording on the left (R: the next one).")
            return
        _DRAW[view.session.mode](view)


def _cut(view: View) -> None:
    session = view.session
    recording = session.need_recording()
    height, width = recording.size
    seconds = recording.num_frames / FPS_HZ
    ui.label(
        f"{width}x{height} px, {recording.native_fps_hz:.0f} fps, {seconds:.1f} s"
        + (f", plays {recording.slowdown:.3g} x slower" if recording.slowdown != 1 else "")
    )
    found = len(view.workspace.releases(recording.path.name))
    ui.label(f"{found} release moments found (green marks)")
    with ui.row().classes("gap-1"):
        _button("← release", "P", lambda: view.next_release(-1))
        _button("release →", "N", lambda: view.next_release(1))
    _button("mark a clip here", "M", view.mark, primary=True)
    clip = session.clip
    if clip is not None:
        ui.separator()
        ui.label(f"{clip.name}: {clip.num_frames / FPS_HZ:.2f} s, at most 12 s").classes("strong")
        with ui.row().classes("gap-1"):
            _button("begin here", "B", view.set_start)
            _button("end here", "E", view.set_stop)
        with ui.row().classes("gap-1"):
            _button("remove", "Del", view.remove_clip)
            _button("crop it →", "2", lambda: view.go(Mode.CROP), primary=True)
    _rate(view, recording)


def _rate(view: View, recording: Recording) -> None:
    """Ask at what rate the recording was captured where no tag of the file says so."""
    if recording.rate_known and view.session.clips:
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
            "confirm", "", lambda: _set_fps(view, field.value), primary=not recording.rate_known
        )


def _set_fps(view: View, fps_hz: float | None) -> None:
    if fps_hz:
        view.do(view.session.set_fps, fps_hz)


def _crop(view: View) -> None:
    clip = view.session.need_clip()
    crop = clip.crop
    ui.label("Drag the square, or its corners. The object must stay inside for the whole fall.")
    ui.label(f"{crop.side} x {crop.side} px at ({crop.left}, {crop.top})").classes("strong")
    with ui.row().classes("gap-1"):
        _button("smaller", "-", lambda: view.grow_crop(-8))
        _button("larger", "+", lambda: view.grow_crop(8))
    _button("around what moves", "G", view.suggest_crop)
    masks = view.workspace.masks(clip)
    if masks is None:
        ui.label("Propagate the points to see whether the object stays inside.").classes("small")
    else:
        _crop_warning(view, clip, leaves(masks[:, view.workspace.dropping(clip)]))
    _button("set points →", "3", lambda: view.go(Mode.POINTS), primary=True)


def _crop_warning(view: View, clip: ClipDraft, bad: list[int]) -> None:
    if not bad:
        ui.label("The falling object stays inside in all frames.").classes("good")
        return
    ui.label(
        f"The falling object touches the edge or is lost in {len(bad)} frames, first in "
        f"frame {bad[0]}. Make the crop larger, or end the clip before."
    ).classes("problem")
    _button("show that frame", "", lambda: view.seek(clip.start + bad[0]))


def _points(view: View) -> None:
    session = view.session
    clip = session.need_clip()
    ui.label().classes("small").bind_text_from(session, "frame", lambda _: _hint(view))
    for index, entry in enumerate(clip.objects):
        positive = sum(c.positive for c in entry.clicks)
        text = f"object {index + 1}: {positive} on, {len(entry.clicks) - positive} beside"
        chosen = "chosen" if index == session.object else ""
        with (
            ui.row()
            .classes(f"entry w-full no-wrap items-center gap-2 {chosen}")
            .on("click", lambda _, by=index - session.object: view.next_object(by))
        ):
            ui.element("div").classes("dot").style(f"background: {COLOURS[index % len(COLOURS)]}")
            ui.label(text)
    with ui.row().classes("gap-1"):
        _button("object", "A", view.add_object, icon="add")
        _button("object", "X", view.remove_object, icon="remove")
        _button("point", "⌫", view.unclick, icon="backspace")
    _field(view, "description", clip.description, "description", "a red ball")
    ui.label().classes("small").bind_text_from(
        session, "clip", lambda c: f"caption: {c.caption}" if c and c.description else ""
    )
    with ui.row().classes("gap-1"):
        _button("preview", "V", view.preview)
        _button("propagate", "T", view.track, primary=True)
    ui.label(view.tracker_note).classes("small")
    _button("check →", "4", lambda: view.go(Mode.CHECK))


def _hint(view: View) -> str:
    """What a click does in the frame on show."""
    session = view.session
    at = session.frame - session.clip.start if session.clip else 0
    if at:
        return f"Frame {at}: points set here correct the mask from this frame on."
    return (
        "First frame: click on each object, right-click (or Shift) beside it. All objects, also "
        "those that lie."
    )


def _check(view: View) -> None:
    clip = view.session.need_clip()
    with ui.row().classes("w-full no-wrap gap-2"):
        _field(view, "description", clip.description, "description", "a red ball")
        _field(view, "scene", clip.scene, "scene", "kitchen")
    with ui.row().classes("w-full no-wrap gap-2 items-end"):
        _field(view, "drop_height_m", clip.drop_height_m, "drop height, m (if measured)", "1.20")
        _button("save", "S", view.save, primary=True)
    view.checks = ui.column().classes("checks w-full gap-1")
    if view.workspace.has_masks(clip):
        with view.checks:
            ui.label("measuring …").classes("small")
        view.check()
    else:
        with view.checks:
            ui.label("Checks need masks: propagate the points first.").classes("problem")
            _button("back to the points", "3", lambda: view.go(Mode.POINTS))


async def fill_checks(view: View) -> None:
    """Numbers and pictures of the checks."""
    clip, box = view.session.need_clip(), view.checks

    def measure() -> tuple[list[Check], list[bytes]]:
        evidence = view.workspace.evidence(clip)
        checks = view.workspace.checks(clip)
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
            _button("start at the measured release", "F", view.fix_start)
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


def _field(view: View, name: str, value: object, label: str, example: str) -> None:
    """A text or number field; what is typed counts when the field is left (or Enter)."""

    def leave() -> None:
        view.typing = False
        view.commit(name, field.value)

    field = ui.input(label, value="" if value is None else str(value), placeholder=example)
    field.props("dense").classes("w-full").mark(name)
    field.on("focus", lambda: setattr(view, "typing", True))
    field.on("blur", leave)
    field.on("keydown.enter", js_handler="(e) => e.target.blur()")
    field.on("keydown.esc", js_handler="(e) => e.target.blur()")


def _button(text: str, key: str, action, *, primary: bool = False, icon: str | None = None) -> None:
    look = "unelevated" if primary else "outline"
    with ui.button(text, on_click=action, icon=icon).props(f"{look} dense no-caps"):
        if key:
            ui.label(key).classes("kbd")


_DRAW = {Mode.CUT: _cut, Mode.CROP: _crop, Mode.POINTS: _points, Mode.CHECK: _check}
