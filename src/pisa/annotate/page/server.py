"""The server of the page: frames by address, one ``View`` per tab, loopback only."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from fastapi import Response
from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pisa.annotate.jobs import Worker
from pisa.annotate.page import statistics_page
from pisa.annotate.page.style import CSS, SCRIPT
from pisa.annotate.page.view import View
from pisa.annotate.workspace import Workspace
from pisa.types import PisaError

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
        View(workspace, worker, note).build()

    @ui.page("/statistics", title="statistics of the saved clips")
    def statistics() -> None:
        ui.add_css(CSS)
        statistics_page.build(workspace.root)

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
