"""One tab of the page: a ``Session`` drawn with NiceGUI."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from nicegui import events, ui

from pisa.annotate.jobs import Job, Worker
from pisa.annotate.page.keys import binding_of, listed
from pisa.annotate.page.panels import Panels
from pisa.annotate.page.picture import Picture
from pisa.annotate.page.sidebar import SideBar
from pisa.annotate.session import Mode, Session
from pisa.annotate.workspace import Workspace
from pisa.errors import PisaError

PLAY_EVERY_S, PLAY_FRAMES = 1 / 15, 4  # half of real time
POLL_S = 0.4


class View:
    """Implements ``pisa.annotate.page.actions``; ``note`` is shown about the tracker."""

    def __init__(self, workspace: Workspace, worker: Worker, note: str) -> None:
        self.workspace, self.worker, self.tracker_note = workspace, worker, note
        self.problems: dict[str, str] = {}  # recordings that cannot be read
        self.session = Session(workspace)
        self.typing = False  # while a text field has the focus
        self.shift = False  # with the key that is handled
        self._jobs: list[tuple[Job, Callable[[], Any]]] = []

    def build(self) -> None:
        """Lay out the page; 1280x720 shows all of it."""
        ui.colors(primary="#1d4e89", positive="#2e7d32", negative="#c0392b")
        with ui.row().classes("w-full h-screen no-wrap gap-0"):
            self.side = SideBar(self, self.stop_job)
            with ui.column().classes("middle gap-1"):
                self.picture = Picture(self)
            self.panels = Panels(self)
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
        self.picture.cursor = None
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
        if self.picture.cursor is not None:
            self.picture.move_cursor(dx * far, dy * far)
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
        self.picture.toggle_cursor()

    def cursor_click(self, positive: bool) -> None:
        if self.picture.cursor is None:
            self.say("C shows the cross hair", "info")
        else:
            self.do(self.session.click, *self.picture.cursor, positive)

    def preview(self) -> None:
        def show() -> None:
            clip = self.session.need_clip()
            at = self.session.frame - clip.start
            tracker = self.workspace.tracker()
            self.picture.preview = tracker.preview(self.workspace.frames(clip), clip, at)

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
            self.side.draw_progress(self.running)
        if not self.typing:
            with contextlib.suppress(PisaError):
                if message := self.session.changed_elsewhere():
                    self.say(message, "info")
                    self.refresh()


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
