"""The left column: recordings, clips and the running job."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from pisa.annotate.jobs import Job
from pisa.annotate.page.actions import Actions
from pisa.annotate.recording import FPS_HZ
from pisa.annotate.store import ClipDraft


class SideBar:
    """Drawn into a column of its own; progress is updated without redrawing the rest."""

    def __init__(self, page: Actions, stop: Callable[[], None]) -> None:
        self.page, self.stop = page, stop
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
                    ui.button("stop", on_click=self.stop).props("flat dense size=sm")
            ui.link("statistics of the saved clips", "/statistics", new_tab=True).classes("small")
        self.draw_progress(self.page.running)

    def draw_progress(self, job: Job | None) -> None:
        self.box.set_visibility(job is not None)
        if job is not None:
            self.title.set_text(f"{job.title} … {100 * job.fraction:.0f} %")
            self.bar.set_value(job.fraction)


def _recordings(page: Actions) -> None:
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


def _clips(page: Actions) -> None:
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


def _state(page: Actions, clip: ClipDraft) -> str:
    text = f"{clip.start / FPS_HZ:.2f} s, {clip.num_frames / FPS_HZ:.2f} s long"
    if page.workspace.is_saved(clip):
        return text + " · saved"
    if page.workspace.has_masks(clip):
        return text + " · tracked"
    return text + (" · points" if any(entry.clicks for entry in clip.objects) else "")
