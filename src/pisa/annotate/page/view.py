"""One tab of the page: a ``Session`` with its jobs, and which key does what.

The help and the page read the same table of keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool
from nicegui import events, ui

from pisa.annotate.session import Mode, Session
from pisa.annotate.workspace import Job, Worker, Workspace
from pisa.errors import PisaError

PLAY_EVERY_S, PLAY_FRAMES = 1 / 15, 4  # half of real time
POLL_S = 0.4

ShowProgress = Callable[[Job | None], None]


class Part(Protocol):
    """A part of the page that can be drawn again."""

    def draw(self) -> None: ...


class View:
    """State and actions of the tab; its parts call them, and are drawn again after each.

    Edits of the project are methods of ``session``, run through ``do`` so that a refusal is shown.
    ``note`` is shown about the tracker.
    """

    def __init__(self, workspace: Workspace, worker: Worker, note: str) -> None:
        self.workspace, self.worker, self.tracker_note = workspace, worker, note
        self.problems: dict[str, str] = {}  # recordings that cannot be read
        self.session = Session(workspace)
        self.typing = False  # while a text field has the focus
        self.shift = False  # with the key that is handled
        self.cursor: tuple[float, float] | None = None  # cross hair, in pixels of the recording
        self.masks: Bool[np.ndarray, "n i j"] | None = None  # a preview, until another frame
        self._jobs: list[tuple[Job, Callable[[], Any]]] = []

    def start(self, side: Part, picture: Part, panels: Part, progress: ShowProgress) -> None:
        """Take over the parts once they are laid out, and show the first recording."""
        self.side, self.picture, self.panels, self.show_progress = side, picture, panels, progress
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        self.player = ui.timer(PLAY_EVERY_S, lambda: self.step(PLAY_FRAMES), active=False)
        ui.timer(POLL_S, self._poll)
        self.refresh()
        names = self.workspace.recordings()
        if names:
            self.open(names[0])

    def refresh(self, panel: bool = True) -> None:
        """Redraw everything; the panel keeps its text fields where ``panel`` is off."""
        self.side.draw()
        self.picture.draw()
        if panel:
            self.panels.draw()

    def do(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Run an edit, show its refusal as a message, and redraw."""
        try:
            action(*arguments)
        except PisaError as error:
            self.say(str(error), "negative")
        self.refresh()

    def say(self, text: str, kind: Any = "positive") -> None:
        ui.notify(text, type=kind, position="top", timeout=6000 if kind == "negative" else 2500)

    def job(
        self, title: str, work: Callable[..., Any], after: Callable[[], Any] = lambda: None
    ) -> None:
        """Run long work beside the page, then ``after`` where it went well."""
        self._jobs.append((self.worker.start(title, work), after))
        self.side.draw()

    def stop_job(self) -> None:
        if self.running is not None:
            self.running.stop()

    @property
    def running(self) -> Job | None:
        return next((job for job, _ in self._jobs if not job.done), None)

    def open(self, name: str) -> None:
        """Show a recording, after it has been read once."""
        self.session.recording = None

        def read(progress: Callable[[float], None]) -> None:
            self.problems.pop(name, None)
            try:
                self.workspace.open(name, progress)
                self.workspace.releases(name)
                self.workspace.signal(name)
            except PisaError as error:
                self.problems[name] = str(error).replace(f"{self.workspace.root}/", "")
                raise

        self.job(f"reading {name}", read, lambda: self.session.show(self.workspace.open(name)))
        self.refresh()

    def next_recording(self, by: int) -> None:
        names = self.workspace.recordings()
        shown = self.session.recording
        index = names.index(shown.path.name) + by if shown and shown.path.name in names else 0
        if names:
            self.open(names[index % len(names)])

    def go(self, mode: Mode) -> None:
        self.cursor = None
        self.do(self.session.go, mode)
        clip = self.session.clip
        wanted = self.session.mode in (Mode.POINTS, Mode.CHECK)
        if wanted and clip is not None and not self.workspace.has_frames(clip):
            self.job(f"cutting {clip.name}", lambda progress: self.workspace.frames(clip, progress))

    def step(self, by: int) -> None:
        with contextlib.suppress(PisaError):  # no recording yet
            self.session.step(by)
            self.picture.draw()

    def seek(self, frame: int) -> None:
        with contextlib.suppress(PisaError):
            self.session.seek(frame)
            self.picture.draw()

    def seek_clip(self, which: int) -> None:
        clip = self.session.clip
        last = self.session.recording.num_frames - 1 if self.session.recording else 0
        first, stop = (clip.start, clip.stop - 1) if clip else (0, last)
        self.seek(first if which == 0 else stop)

    def arrow(self, dx: int, dy: int) -> None:
        """Move the cross hair, else the crop, else go through time."""
        far = 10 if self.shift else 1
        if self.cursor is not None:
            self._move_cursor(dx * far, dy * far)
        elif self.session.mode is Mode.CROP and self.session.crop and self.session.recording:
            size = self.session.recording.size
            moved = self.session.crop.moved(2 * dx * far, 2 * dy * far, size)
            self.do(self.session.set_crop, moved)
        else:
            self.step(dx * far + dy * 120)

    def play(self) -> None:
        self.player.active = not self.player.active

    def undo(self) -> None:
        self.do(lambda: self.say(f"undone: {self.session.undo()}"))

    def grow_crop(self, by: int) -> None:
        recording, crop = self.session.recording, self.session.crop
        if recording and crop:
            self.do(self.session.set_crop, crop.grown(by, recording.size))

    def suggest_crop(self) -> None:
        clip = self.session.clip
        if clip is not None:
            self.do(self.session.set_crop, self.workspace.suggested_crop(clip))

    def commit(self, name: str, text: str) -> None:
        """Take over a text field; a refused value is named, so that it is not lost."""
        try:
            value = parse_field(name, text)
            if self.session.clip is not None:
                self.session.describe(name, value)
        except PisaError as error:
            self.say(f"{error} (typed: {text!r})", "negative")
            self.session.changed_elsewhere()
            self.refresh()
        else:
            self.refresh(panel=False)

    def toggle_cursor(self) -> None:
        clip = self.session.clip
        if self.cursor is not None or clip is None:
            self.cursor = None
        else:
            middle = clip.crop.side / 2
            self.cursor = (clip.crop.left + middle, clip.crop.top + middle)
        self.picture.draw()

    def cursor_click(self, positive: bool) -> None:
        if self.cursor is None:
            self.say("C shows the cross hair", "info")
        else:
            self.do(self.session.click, *self.cursor, positive)

    def preview(self) -> None:
        def show() -> None:
            clip = self.session.need_clip()
            at = self.session.frame - clip.start
            tracker = self.workspace.tracker()
            self.masks = tracker.preview(self.workspace.frames(clip), clip, at)

        self.job("preview", lambda _: show())

    def track(self) -> None:
        clip = self.session.clip
        if clip is not None:
            work = self.workspace.track
            self.job(
                f"propagating {clip.name}",
                lambda progress: work(clip, progress),
                lambda: self.say("propagated; step through the frames (→), then 4 checks the clip"),
            )

    def fix_start(self) -> None:
        self.do(lambda: self.say(f"start moved by {self.session.fix_start()} frames; propagate"))

    def save(self) -> None:
        clip = self.session.clip
        if clip is not None:
            self.job(
                f"saving {clip.name}",
                lambda _: self.workspace.save(clip),
                lambda: self.say(f"saved as {clip.name}"),
            )

    def help(self) -> None:
        with ui.dialog(value=True) as dialog, ui.card().classes("help"):
            with ui.row().classes("no-wrap items-start gap-8"):
                for modes in ((None,), tuple(Mode)):
                    with ui.column().classes("gap-1"):
                        for mode in modes:
                            ui.label(str(mode or "everywhere").upper()).classes("title")
                            for key, text in listed(mode):
                                with ui.row().classes("gap-2 no-wrap items-center"):
                                    ui.label(key).classes("kbd")
                                    ui.label(text).classes("small")
            ui.button("close", on_click=dialog.close).props("flat dense")

    def _move_cursor(self, dx: int, dy: int) -> None:
        assert self.cursor is not None
        crop = self.session.need_clip().crop
        step, last = max(1.0, crop.side / 200), crop.side - 1
        x, y = self.cursor[0] + dx * step, self.cursor[1] + dy * step
        self.cursor = (
            min(max(x, crop.left), crop.left + last),
            min(max(y, crop.top), crop.top + last),
        )
        self.picture.draw()

    def _key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta:
            return
        binding = binding_of(event.key.name, self.session.mode)
        if binding is None:
            return
        if binding.repeats or not event.action.repeat:
            self.shift = bool(event.modifiers.shift)
            binding.action(self)

    def _poll(self) -> None:
        """Progress of the job, and what other tabs have changed."""
        for job, after in [entry for entry in self._jobs if entry[0].done]:
            self._jobs.remove((job, after))
            if job.error:
                self.say(job.error, "negative")
            self.do(after if not job.error else lambda: None)
        if self._jobs:
            self.show_progress(self.running)
        if not self.typing:
            with contextlib.suppress(PisaError):
                if message := self.session.changed_elsewhere():
                    self.say(message, "info")
                    self.refresh()


@dataclass(frozen=True)
class Binding:
    """``mode`` None: everywhere. ``repeats``: again and again while the key is held."""

    key: str
    action: Callable[[View], object]
    help: str
    mode: Mode | None = None
    repeats: bool = False


def _bindings(
    mode: Mode, *entries: tuple[str, Callable[[View], object], str]
) -> tuple[Binding, ...]:
    return tuple(Binding(*entry, mode) for entry in entries)


_ARROWS = "(Shift: 10); crop, cross hair: move"
_MOVES = "crop, cross hair: move"
BINDINGS: tuple[Binding, ...] = (
    Binding("1", lambda page: page.go(Mode.CUT), "step 1: cut"),
    Binding("2", lambda page: page.go(Mode.CROP), "step 2: crop"),
    Binding("3", lambda page: page.go(Mode.POINTS), "step 3: points"),
    Binding("4", lambda page: page.go(Mode.CHECK), "step 4: check and save"),
    Binding("ArrowLeft", lambda page: page.arrow(-1, 0), f"1 frame back {_ARROWS}", repeats=True),
    Binding("ArrowRight", lambda page: page.arrow(1, 0), f"1 frame on {_ARROWS}", repeats=True),
    Binding("ArrowUp", lambda page: page.arrow(0, -1), f"{_MOVES}; else 1 s back", repeats=True),
    Binding("ArrowDown", lambda page: page.arrow(0, 1), f"{_MOVES}; else 1 s on", repeats=True),
    Binding(",", lambda page: page.step(-1), "1 frame back", repeats=True),
    Binding(".", lambda page: page.step(1), "1 frame on", repeats=True),
    Binding("<", lambda page: page.step(-10), "10 frames back", repeats=True),
    Binding(">", lambda page: page.step(10), "10 frames on", repeats=True),
    Binding("Home", lambda page: page.seek_clip(0), "start of the clip"),
    Binding("End", lambda page: page.seek_clip(-1), "end of the clip"),
    Binding(" ", lambda page: page.play(), "play at half speed, stop"),
    Binding("r", lambda page: page.next_recording(1), "next recording"),
    Binding("j", lambda page: page.do(page.session.next_clip, 1), "next clip"),
    Binding("k", lambda page: page.do(page.session.next_clip, -1), "clip before"),
    Binding("z", lambda page: page.undo(), "undo"),
    Binding("?", lambda page: page.help(), "this list"),
    *_bindings(
        Mode.CUT,
        ("n", lambda page: page.do(page.session.next_release, 1), "next release moment found"),
        ("p", lambda page: page.do(page.session.next_release, -1), "release moment before"),
        ("m", lambda page: page.do(page.session.mark), "mark a clip that starts at this frame"),
        ("b", lambda page: page.do(page.session.set_start), "begin the clip at this frame"),
        ("e", lambda page: page.do(page.session.set_stop), "end the clip at this frame"),
        (
            "Delete",
            lambda page: page.do(page.session.remove_clip),
            "remove the clip (undo brings it back)",
        ),
    ),
    Binding("+", lambda page: page.grow_crop(8), "larger crop", Mode.CROP, repeats=True),
    Binding("-", lambda page: page.grow_crop(-8), "smaller crop", Mode.CROP, repeats=True),
    Binding("g", lambda page: page.suggest_crop(), "crop around what moves", Mode.CROP),
    *_bindings(
        Mode.POINTS,
        ("a", lambda page: page.do(page.session.add_object), "add an object"),
        ("]", lambda page: page.do(page.session.next_object, 1), "next object"),
        ("[", lambda page: page.do(page.session.next_object, -1), "object before"),
        ("x", lambda page: page.do(page.session.remove_object), "remove the object"),
        ("Backspace", lambda page: page.do(page.session.unclick), "remove the newest point"),
        ("c", lambda page: page.toggle_cursor(), "cross hair for the arrow keys, on and off"),
        ("Enter", lambda page: page.cursor_click(True), "positive point at the cross hair"),
        ("0", lambda page: page.cursor_click(False), "negative point at the cross hair"),
        ("v", lambda page: page.preview(), "preview of the masks in this frame"),
        ("t", lambda page: page.track(), "propagate through the clip"),
    ),
    *_bindings(
        Mode.CHECK,
        ("f", lambda page: page.fix_start(), "move the start to the release that is measured"),
        ("s", lambda page: page.save(), "save the clip"),
    ),
)


def binding_of(key: str, mode: Mode) -> Binding | None:
    """Letters count in either case."""
    wanted = key.lower() if len(key) == 1 else key
    found = (b for b in BINDINGS if b.key == wanted and b.mode in (None, mode))
    return next(found, None)


def listed(mode: Mode | None) -> list[tuple[str, str]]:
    """Key and meaning of one step's keys (None: those that hold everywhere)."""
    names = {" ": "Space", "ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓"}
    return [(names.get(b.key, b.key.upper()), b.help) for b in BINDINGS if b.mode == mode]


def parse_field(name: str, text: str) -> str | float | None:
    """A text field's value; lengths take a decimal point or comma, and may be left empty."""
    if name != "drop_height_m":
        return text.strip()
    if not text.strip():
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise PisaError("the drop height is a number of metres, such as 1.20") from error
