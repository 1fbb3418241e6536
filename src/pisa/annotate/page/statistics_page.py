"""Statistics of the saved clips, as in the paper's Figure 3."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from nicegui import ui

from pisa.annotate.statistics import PAPER_CLIPS, draw, real_statistics
from pisa.data.clip_info import caption_of, fps_of, read_info
from pisa.data.manifest import list_clips
from pisa.types import PisaError

_NUMBERS = ("objects", "frames", "fps")


def build(root: Path) -> None:
    """Figure 3 of the folder's clips, and a table of them."""
    with ui.column().classes("statistics gap-2"):
        ui.label("Statistics of the saved clips (as in the paper's Figure 3)").classes("brand")
        try:
            clips = list_clips(root)
            statistics = real_statistics(clips)
            rows = [_row(clip) for clip in clips]
        except PisaError as error:
            ui.label(str(error)).classes("problem")
            return
        shortest, mean, longest = statistics.duration_s
        ui.label(
            f"{statistics.num_clips} clips (the paper's set has {PAPER_CLIPS}), {shortest:.2f} to "
            f"{longest:.2f} s long, {mean:.2f} s on average"
        )
        buffer = io.BytesIO()
        draw(statistics).savefig(buffer, format="png", dpi=100)
        data = base64.b64encode(buffer.getvalue()).decode()
        ui.image(f"data:image/png;base64,{data}").style("width: 800px")
        columns = [
            {"name": key, "label": key, "field": key, "sortable": True}
            | {"align": "right" if key in _NUMBERS else "left"}
            for key in rows[0]
        ]
        ui.table(rows=rows, columns=columns).props("dense flat bordered")


def _row(clip: Path) -> dict[str, object]:
    info = read_info(clip)
    source = info.get("annotate")
    checks = source.get("checks", {}) if isinstance(source, dict) else {}
    failed = [name for name, check in checks.items() if not check["passed"]]
    return {
        "clip": clip.name,
        "caption": caption_of(info, clip),
        "scene": info.get("scene", "not recorded"),
        "objects": info.get("num_objects", ""),
        "frames": info.get("num_frames", ""),
        "fps": fps_of(info, clip / "00000.jpg"),
        "checks": "all passed" if checks and not failed else ", ".join(failed) or "not made here",
    }
