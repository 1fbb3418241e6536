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
from matplotlib.lines import Line2D

from pisa.ops.video import read_video
from pisa.reports.dashboard_spec import METRICS, SECTIONS, Panel, Section
from pisa.reports.figures.wandb_log import Curves, read_offline
from pisa.types import PisaError

COLUMNS = 4  # of plots
WIDE = 2  # of videos and tables
FRAMES = 8  # of a sample video, evenly spread
_ROW_IN = 2.2
_TABLE_ROWS = 5
_FEW = 10  # points that are marked, since a line alone would not show one
_STYLES = ("-", "--", ":", "-.")  # of runs, where colours tell the curves of one plot apart


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
    """Write ``out``.png with every section for which something was logged; returns its path.

    Raises ``PisaError`` where there is none.
    """
    runs = [read_run(folder) for folder in folders]
    parts = [part for section in SECTIONS if (part := _Part.of(section, runs)).rows]
    if not parts:
        raise PisaError("nothing of the dashboard was logged by these runs")
    rows = sum(part.rows for part in parts)
    figure = Figure(figsize=(4 * COLUMNS, _ROW_IN * rows + 1.0), layout="constrained")
    heights = [float(part.rows) for part in parts]
    blocks: Any = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)
    for part, block in zip(parts, blocks[:, 0], strict=True):
        block.suptitle(part.section.title, x=0.01, ha="left", weight="bold", size=11)
        part.draw(block, runs)
    lines = [Line2D([], [], color=_colour(i), lw=2, label=r.label) for i, r in enumerate(runs)]
    figure.legend(handles=lines, loc="outside upper right", ncols=COLUMNS, frameon=False)
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
        return -(-len(self.panels) // COLUMNS) - (-len(self.files) // WIDE)

    def draw(self, block: Any, runs: Sequence[OfflineRun]) -> None:
        if self.panels:
            axes = block.subplots(self.rows, COLUMNS, squeeze=False).flatten()
            for place, panel in zip(axes, self.panels, strict=False):
                plot(place, panel, runs)
            for empty in axes[len(self.panels) :]:
                empty.set_axis_off()
            return
        axes = block.subplots(self.rows, WIDE, squeeze=False).flatten()
        for place, (key, run, path) in zip(axes, self.files, strict=False):
            place.set_title(f"{key}: {run.label}", size=8, loc="left")
            _show_video(place, path) if path.suffix == ".mp4" else _show_table(place, path)
        for empty in axes[len(self.files) :]:
            empty.set_axis_off()


def plot(axes: Axes, panel: Panel, runs: Sequence[OfflineRun]) -> None:
    """Every matching curve of every run; smoothed as W&B does where the panel says so.

    A run has its colour; where a plot holds several curves of a run, they have the colours.
    """
    for number, run in enumerate(runs):
        curves = _distinct(run.curves, panel.matching(run.curves))
        for order, (name, points) in enumerate(curves):
            steps, values = zip(*points, strict=True)
            look = {"color": _colour(number)}
            if len(curves) > 1:
                style = _STYLES[number % len(_STYLES)]
                look = {"color": _colour(order), "linestyle": style, "label": name}
            marker = "o" if len(steps) < _FEW else ""
            axes.plot(steps, smoothed(values, panel.smooth), lw=1.2, marker=marker, ms=3, **look)
    axes.set_title(panel.title, size=9)
    axes.set_xlabel("step", size=7, loc="right", labelpad=1)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if panel.log_y:
        axes.set_yscale("log")
    elif not any(np.any(line.get_ydata()) for line in axes.lines):
        axes.set_ylim(-0.05, 1.0)  # all zero: no skipped step must not look like a small number
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(handles[:8], labels[:8], fontsize=6, frameon=False)


def _distinct(curves: Curves, keys: Sequence[str]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Name and points of each curve; equal ones (a reward and its only term) are one."""
    named: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for key in keys:
        named.setdefault(tuple(curves[key]), []).append(key.split("/")[-1])
    return [(" = ".join(names), list(points)) for points, names in named.items()]


def _colour(number: int) -> Any:
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    return colours[number % len(colours)]


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with W&B's correction of the start."""
    kept, out = 0.0, []
    for count, value in enumerate(values, 1):
        kept = weight * kept + (1 - weight) * value
        out.append(kept / (1 - weight**count) if weight else value)
    return out


def _show_video(axes: Axes, path: Path) -> None:
    """The halves of the video, truth and generated, one above the other at the same moments."""
    frames, _ = read_video(path)
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    pictures = [np.asarray(frames[i]) for i in chosen]
    height, half = pictures[0].shape[0], pictures[0].shape[1] // 2
    halves = (slice(0, half), slice(-half, None))
    strips = [np.concatenate([p[:, part] for p in pictures], axis=1) for part in halves]
    axes.imshow(np.concatenate(strips))
    axes.set_yticks([height / 2, 3 * height / 2], ["truth", "generated"], size=7)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _show_table(axes: Axes, path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [[_cell(value) for value in row] for row in content["data"][:_TABLE_ROWS]]
    names = [METRICS.get(column, column) for column in content["columns"]]
    axes.set_axis_off()
    table = axes.table(cells, colLabels=names, loc="center", cellLoc="center", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _step_of(path: Path) -> int:
    """W&B names media KEY_STEP_HASH.suffix."""
    numbers = [part for part in path.name.split("_") if part.isdigit()]
    return int(numbers[-1]) if numbers else -1
