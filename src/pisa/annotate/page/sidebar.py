"""The left column: recordings, clips and the running job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from pisa.annotate.recording import FPS_HZ
from pisa.annotate.store import ClipDraft

if TYPE_CHECKING:
    from pisa.annotate.page.view import View


def draw(view: View) -> None:
    view.side.clear()
    with view.side:
        with ui.row().classes("w-full items-center justify-between no-wrap"):
            ui.label("Own real clips").classes("brand")
            ui.button("?", on_click=view.help).props("flat dense round size=sm").tooltip("keys")
        ui.label(str(view.workspace.root)).classes("small ellipsis").tooltip(
            str(view.workspace.root)
        )
        ui.label("RECORDINGS").classes("title")
        _recordings(view)
        ui.label("CLIPS OF THIS RECORDING").classes("title")
        _clips(view)
        ui.space()
        draw_job(view)
        ui.link("statistics of the saved clips", "/statistics", new_tab=True).classes("small")


def _recordings(view: View) -> None:
    names = view.workspace.recordings()
    if not names:
        ui.label("There is no video file in the folder.").classes("small")
    shown = view.session.recording.path.name if view.session.recording else ""
    with ui.column().classes("list gap-0 w-full"):
        for name in names:
            problem = view.problems.get(name)
            chosen = "chosen" if name == shown else ""
            with (
                ui.element("div")
                .classes(f"entry {chosen}")
                .on("click", lambda _, name=name: view.open(name))
            ):
                ui.label(name).classes("ellipsis")
                if problem:
                    ui.label(problem).classes("problem")


def _clips(view: View) -> None:
    clips = view.session.clips
    if not clips:
        ui.label("none yet: go to a release (N), mark it (M)").classes("small")
    with ui.column().classes("list gap-0 w-full"):
        for key, clip in clips.items():
            chosen = "chosen" if key == view.session.key else ""
            with (
                ui.element("div")
                .classes(f"entry {chosen}")
                .on("click", lambda _, key=key: view.do(view.session.choose, key))
            ):
                ui.label(clip.name).classes("ellipsis")
                ui.label(_state(view, clip)).classes("small")


def _state(view: View, clip: ClipDraft) -> str:
    text = f"{clip.start / FPS_HZ:.2f} s, {clip.num_frames / FPS_HZ:.2f} s long"
    if view.workspace.is_saved(clip):
        return text + " · saved"
    if view.workspace.has_masks(clip):
        return text + " · tracked"
    return text + (" · points" if any(entry.clicks for entry in clip.objects) else "")


def draw_job(view: View) -> None:
    with ui.column().classes("w-full gap-0"):
        view.job_box = ui.column().classes("w-full gap-0 job")
        with view.job_box:
            view.job_title = ui.label().classes("small")
            with ui.row().classes("w-full no-wrap items-center gap-1"):
                view.job_bar = ui.linear_progress(show_value=False).props("rounded")
                ui.button("stop", on_click=view.stop_job).props("flat dense size=sm")
    draw_progress(view)


def draw_progress(view: View) -> None:
    job = view.running
    view.job_box.set_visibility(job is not None)
    if job is not None:
        view.job_title.set_text(f"{job.title} … {100 * job.fraction:.0f} %")
        view.job_bar.set_value(job.fraction)
