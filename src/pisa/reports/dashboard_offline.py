"""The dashboard of ``dashboard_spec`` drawn from offline W&B files; no account is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.ops.video import read_video
from pisa.reports.dashboard_spec import SECTIONS, Panel, Section
from pisa.reports.figures.wandb_log import Curves, read_offline
from pisa.types import PisaError

COLUMNS = 4
FRAMES = 8  # of a sample video, evenly spread
_ROW_IN = 2.1
_TABLE_ROWS = 5
_FEW = 10  # points that are marked, since a line alone would not show one


@dataclass(frozen=True)
class OfflineRun:
    """One W&B run: what its parts (one for each start) have logged, and its media folders."""

    name: str
    config: Mapping[str, Any]
    curves: Curves
    media: tuple[Path, ...]

    @property
    def label(self) -> str:
        stage, seed = self.config.get("stage"), self.config.get("seed")
        known = [self.name, f"seed {seed}" if seed is not None else "", str(stage or "")]
        return ", ".join(part for part in known if part)

    def latest(self, key: str, suffix: str) -> Path | None:
        """The newest media file that was logged under a key."""
        found = [p for folder in self.media for p in folder.glob(f"**/{key}_*{suffix}")]
        found += [p for folder in self.media for p in folder.glob(f"**/{key}/*{suffix}")]
        return max(found, key=_step_of, default=None)


def read_run(folder: Path) -> OfflineRun:
    """All offline parts of a run folder. Raises ``PisaError`` where there are none."""
    logs = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    if not logs:
        raise PisaError(f"{folder}: holds no offline W&B run (wandb/offline-run-*/run-*.wandb)")
    config: dict[str, Any] = {}
    curves: Curves = {}
    for log in logs:
        part, points = read_offline(log)
        config |= part
        for key, values in points.items():
            curves.setdefault(key, []).extend(values)
    media = tuple(log.parent / "files" / "media" for log in logs)
    return OfflineRun(folder.name, config, curves, media)


def draw(folders: Sequence[Path], out: Path) -> Path:
    """Write ``out``.png with every section for which something was logged; returns its path."""
    runs = [read_run(folder) for folder in folders]
    parts = [part for section in SECTIONS if (part := _Part.of(section, runs)).rows]
    if not parts:
        raise PisaError("nothing of the dashboard was logged by these runs")
    rows = sum(part.rows for part in parts)
    figure = Figure(figsize=(4 * COLUMNS, _ROW_IN * rows + 0.6), layout="constrained")
    heights = [float(part.rows) for part in parts]
    blocks: Any = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)
    for part, block in zip(parts, blocks[:, 0], strict=True):
        block.suptitle(part.section.title, x=0.01, ha="left", weight="bold", size=11)
        part.draw(block, runs)
    path = out.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return path


@dataclass(frozen=True)
class _Part:
    """A section with what of it was logged."""

    section: Section
    panels: tuple[Panel, ...]
    files: tuple[tuple[str, OfflineRun, Path], ...]

    @classmethod
    def of(cls, section: Section, runs: Sequence[OfflineRun]) -> _Part:
        panels = [p for p in section.panels if any(p.matching(run.curves) for run in runs)]
        wanted = [(key, ".mp4") for key in section.media]
        wanted += [(key, ".table.json") for key in section.tables]
        found = [
            (key, run, path)
            for run in runs
            for key, suffix in wanted
            if (path := run.latest(key, suffix)) is not None
        ]
        return cls(section, tuple(panels), tuple(found))

    @property
    def rows(self) -> int:
        return -(-len(self.panels) // COLUMNS) + len(self.files)

    def draw(self, block: Any, runs: Sequence[OfflineRun]) -> None:
        if self.panels:
            axes = block.subplots(self.rows, COLUMNS, squeeze=False).flatten()
            for place, panel in zip(axes, self.panels, strict=False):
                plot(place, panel, runs)
            for empty in axes[len(self.panels) :]:
                empty.set_axis_off()
            return
        axes = block.subplots(self.rows, 1, squeeze=False).flatten()
        for place, (key, run, path) in zip(axes, self.files, strict=True):
            place.set_axis_off()
            place.set_title(f"{key}: {run.label}", size=8, loc="left")
            _show_video(place, path) if path.suffix == ".mp4" else _show_table(place, path)


def plot(axes: Axes, panel: Panel, runs: Sequence[OfflineRun]) -> None:
    """Every matching curve of every run; smoothed as W&B does where the panel says so."""
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, run in enumerate(runs):
        keys = panel.matching(run.curves)
        for order, key in enumerate(keys):
            steps, values = zip(*run.curves[key], strict=True)
            colour = colours[(number if len(keys) == 1 else order) % len(colours)]
            label = run.label if len(keys) == 1 else f"{key.split('/')[-1]}"
            shown = smoothed(values, panel.smooth)
            marker = "o" if len(steps) < _FEW else ""
            axes.plot(steps, shown, color=colour, lw=1.2, marker=marker, ms=3, label=label)
    axes.set_title(panel.title, size=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if panel.log_y:
        axes.set_yscale("log")
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(handles[:8], labels[:8], fontsize=6, frameon=False)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with W&B's correction of the start."""
    kept, out = 0.0, []
    for count, value in enumerate(values, 1):
        kept = weight * kept + (1 - weight) * value
        out.append(kept / (1 - weight**count) if weight else value)
    return out


def _show_video(axes: Axes, path: Path) -> None:
    frames, _ = read_video(path)
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    axes.imshow(np.concatenate([np.asarray(frames[i]) for i in chosen], axis=1))


def _show_table(axes: Axes, path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [[_cell(value) for value in row] for row in content["data"][:_TABLE_ROWS]]
    table = axes.table(cells, colLabels=content["columns"], loc="center", cellLoc="center")
    table.set_fontsize(8)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _step_of(path: Path) -> int:
    """W&B names media KEY_STEP_HASH.suffix."""
    numbers = [part for part in path.name.split("_") if part.isdigit()]
    return int(numbers[-1]) if numbers else -1
