"""The server of the page: frames by address, one ``View`` per tab, loopback only."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from fastapi import Response
from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pisa.annotate.page.panels import Panels, SideBar
from pisa.annotate.page.picture import Picture
from pisa.annotate.page.view import View
from pisa.annotate.workspace import Worker, Workspace
from pisa.errors import PisaError

HOST = "127.0.0.1"
_KEPT = {"Cache-Control": "private, max-age=3600"}  # addresses change with what they show
_DIGEST = re.compile(r"[0-9a-f]{16}")


def serve(workspace: Workspace, port: int, show: bool, note: str) -> None:
    """Serve the page until interrupted; ``port`` 0 takes a free one. ``show`` opens a browser.

    Requests that name another host than loopback are refused, so that no web page elsewhere can
    reach it through a name of its own.
    """
    worker = Worker()
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    add_frames(workspace)

    @ui.page("/", title="annotate: own real clips")
    def editor() -> None:
        ui.add_css(CSS)
        ui.add_head_html(f"<script>{SCRIPT}</script>")
        build(View(workspace, worker, note))

    chosen = port or free_port()
    print(f"annotate: http://{HOST}:{chosen} (Ctrl+C ends it; all is saved)", flush=True)
    ui.run(
        host=HOST,
        port=chosen,
        show=show,
        reload=False,
        show_welcome_message=False,
        reconnect_timeout=120.0,  # a busy machine, or a laptop's lid: the tab keeps its place
        title="annotate",
        favicon="🎾",
    )


def build(page: View) -> None:
    """Lay out the page; 1280x720 shows all of it."""
    ui.colors(primary="#1d4e89", positive="#2e7d32", negative="#c0392b")
    with ui.row().classes("w-full h-screen no-wrap gap-0"):
        side = SideBar(page)
        with ui.column().classes("middle gap-1"):
            picture = Picture(page)
        panels = Panels(page)
    page.start(side, picture, panels, side.draw_progress)


def add_frames(workspace: Workspace) -> None:
    """Addresses of single frames: of recordings (small), and of clips (in full)."""

    @app.get("/frame/{name}/{index}.jpg")
    def frame(name: str, index: int) -> Response:
        try:
            recording = workspace.open(name)
        except PisaError as error:
            return Response(str(error), 404)
        if not 0 <= index < recording.num_frames:
            return Response(f"{name} has frames 0 to {recording.num_frames - 1}", 404)
        return Response(recording.preview(index), media_type="image/jpeg", headers=_KEPT)

    @app.get("/clip/{digest}/{index}.jpg")
    def clip_frame(digest: str, index: int) -> Response:
        path = workspace.work / "clips" / digest / f"{index:05d}.jpg"
        if not _DIGEST.fullmatch(digest) or not path.is_file():
            return Response("there is no such frame", 404)
        return Response(Path(path).read_bytes(), media_type="image/jpeg", headers=_KEPT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


CSS = """
body { overflow: hidden; font-size: 14px; background: #fff; color: #1c1c1e; }
.nicegui-content { padding: 0; }
.side { width: 220px; height: 100vh; padding: 10px; background: #f4f4f5; flex-wrap: nowrap; }
.middle { width: calc(100vw - 560px); height: 100vh; padding: 10px 15px; align-items: center;
  flex-wrap: nowrap; }
.right { width: 340px; height: 100vh; padding: 10px; border-left: 1px solid #e0e0e3;
  flex-wrap: nowrap; }
.panel { overflow-y: auto; flex-wrap: nowrap; padding-top: 10px; flex: 1; }
.panel > * { flex-shrink: 0; }
.stage { height: calc(100vh - 170px); width: 100%; display: flex; align-items: center;
  justify-content: center; }
.stage img { user-select: none; cursor: crosshair; }
.status { font-variant-numeric: tabular-nums; color: #48484a; }
.timeline { width: 100%; height: 90px; cursor: pointer; border-radius: 4px; overflow: hidden; }
.timeline > .nicegui-interactive-image-layer { aspect-ratio: auto !important; height: 100%; }
.brand { font-size: 17px; font-weight: 600; }
.title { font-size: 11px; font-weight: 600; color: #6e6e73; margin-top: 12px;
  letter-spacing: 0.4px; }
.small { font-size: 12px; color: #5a5a5f; line-height: 1.35; }
.strong { font-weight: 600; }
.ellipsis { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 100%; }
.list { overflow-y: auto; max-height: 40vh; flex-wrap: nowrap; }
.entry { padding: 4px 8px; border-radius: 5px; cursor: pointer; width: 100%; }
.entry:hover { background: #e8e8eb; }
.entry.chosen { background: #d3e3f5; }
.problem { color: #c0392b; font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
.good { color: #2e7d32; }
.check .good, .check .problem { font-size: 14px; font-weight: 600; }
.panel .q-btn, .side .q-btn--dense:not(.q-btn--round) { padding: 2px 9px; font-weight: 500;
  font-size: 12.5px; }
.panel .q-btn__content { flex-wrap: nowrap; }
.tabs button { flex: 1; border-bottom: 2px solid transparent; border-radius: 0; color: #6e6e73; }
.tabs button.open { border-bottom-color: #1d4e89; color: #1d4e89; font-weight: 600; }
.kbd { font: 11px ui-monospace, monospace; border: 1px solid #b8b8bd; border-radius: 4px;
  padding: 0 5px; margin-left: 6px; background: #fafafa; color: #3a3a3c; line-height: 16px; }
.dot { width: 12px; height: 12px; border-radius: 6px; flex: none; }
.check { border: 1px solid #e0e0e3; border-radius: 5px; }
.check .q-item { padding: 4px 8px; min-height: 0; }
.plot { width: 100%; }
.checks { flex-wrap: nowrap; }
.help { max-width: none; padding: 18px; }
.job { background: #fff; border-radius: 5px; padding: 6px; margin-bottom: 6px; }
.q-notification { pointer-events: none; }  /* a click under a message reaches the picture */
"""

# A clicked button must not keep the focus, or Space would press it again.
SCRIPT = """
document.addEventListener("click", (e) => {
  if (e.detail > 0 && document.activeElement && document.activeElement.tagName === "BUTTON")
    document.activeElement.blur();
});
document.addEventListener("keydown", (e) => {
  const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName);
  if (!typing && [" ", "ArrowUp", "ArrowDown", "Backspace", "Home", "End"].includes(e.key))
    e.preventDefault();
});
"""
