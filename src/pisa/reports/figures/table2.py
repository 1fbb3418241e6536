"""Table 2: scores in and out of distribution, and by depth and height."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pisa.errors import PisaError
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of, read_analysis
from pisa.reports.figures.table1 import write_table
from pisa.reports.names import (
    REFERENCES,
    direction,
    metric_arrow,
    metric_label,
    model_label,
    order_models,
)
from pisa.reports.published import PublishedRow, published_table_2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="ood.json, or its folder")
    style.add_out(parser, "table2")


def main(given: argparse.Namespace) -> None:
    """Write the table and the grid of one result of experiment=ood."""
    document = read_analysis(given.result, "ood")
    origin = origin_of(document["provenance"])
    summary = {model: result["table"] for model, result in document["models"].items()}
    write_table(given.out, {"summary": summary}, published_rows_2(), origin)
    style.write(
        given.out.with_name(f"{given.out.name}_grid"),
        origin,
        lambda: draw_grid({m: r["grid"] for m, r in document["models"].items()}),
        title="Table 2 by depth and height",
        notes="Mean over the clips of a cell and, small, their number; framed: in distribution.",
    )


def published_rows_2() -> list[PublishedRow]:
    """The paper's Table 2 as one row; its settings ID and OOD are our splits ``id`` and ``ood``."""
    scores = {label.lower(): values for label, values in published_table_2().items()}
    return [PublishedRow("The paper's model", "ours", scores)]


METRICS = ("l2", "iou", "time_error")
TRAINED_M = ((1.0, 3.0), (0.5, 1.5))  # depth, height (paper section 5.1)

Grid = Mapping[str, Any]


def draw_grid(grids: Mapping[str, Grid]) -> Figure:
    """A row per model, a column per metric; darker is worse in all of them.

    Raises ``PisaError`` where only reference rows were scored.
    """
    models = [m for m in order_models(grids) if m not in REFERENCES]
    if not models:
        raise PisaError("no model was scored by depth and height, only the reference rows")
    figure = style.new_figure(style.TEXT_IN, 2.15 * len(models))
    axes_grid = figure.subplots(len(models), len(METRICS), squeeze=False, sharex=True, sharey=True)
    for axes_row, model in zip(axes_grid, models, strict=True):
        for axes, metric in zip(axes_row, METRICS, strict=True):
            draw_cells(axes, grids[model], metric)
        axes_row[0].set_ylabel(f"{model_label(model)}\nheight (m)")
    for axes, metric in zip(axes_grid[0], METRICS, strict=True):
        axes.set_title(f"{metric_label(metric)} {metric_arrow(metric)}")
    for axes in axes_grid[-1]:
        axes.set_xlabel("depth (m)")
    return figure


def draw_cells(axes: Axes, grid: Grid, metric: str) -> None:
    """One heat map; cells without a clip stay white, and say so by having no number."""
    means = np.array(grid["mean"][metric], dtype=float)  # [depth, height]; None becomes NaN
    depth_m, height_m = np.array(grid["depth_edges_m"]), np.array(grid["height_edges_m"])
    colours = "cividis_r" if direction(metric) < 0 else "cividis"
    mesh = axes.pcolormesh(depth_m, height_m, means.T, cmap=colours, edgecolors="white")
    for i, x in enumerate((depth_m[:-1] + depth_m[1:]) / 2):
        for j, y in enumerate((height_m[:-1] + height_m[1:]) / 2):
            if np.isfinite(means[i, j]):
                rgb = np.array(mesh.to_rgba(means[i, j]))[:3]
                ink = "white" if rgb.mean() < 0.5 else "black"
                axes.text(x, y + 0.06, f"{means[i, j]:.2f}", ha="center", color=ink, fontsize=6.5)
                count = str(grid["n"][i][j])
                axes.text(x, y - 0.17, count, ha="center", color=ink, fontsize=4.8)
    (left, right), (low, high) = TRAINED_M
    frame = Rectangle((left, low), right - left, high - low, fill=False, linewidth=1.6)
    frame.set(edgecolor=style.RED, clip_on=False, zorder=5)
    axes.add_patch(frame)
    axes.set_xticks(depth_m)
    axes.set_yticks(height_m)
