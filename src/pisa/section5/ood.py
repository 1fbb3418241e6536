"""Scores in and out of the training distribution, by depth and height (paper Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pisa.bench.row import METRICS as ALL_METRICS
from pisa.metrics.statistics import bootstrap_ci

METRICS = ALL_METRICS[:4]  # the columns of Table 2: l2, chamfer, iou, time_error
LABELS = ("id", "ood")
DEPTH_EDGES_M = (1.0, 2.0, 3.0, 4.0, 5.0)
HEIGHT_EDGES_M = (0.5, 1.0, 1.5, 2.0, 2.5)

Row = Mapping[str, Any]


def label_of(study: Mapping[str, Any]) -> str:
    """``id`` where depth and height both lie in the training ranges, else ``ood``."""
    return "id" if study["in_distribution"] else "ood"


def table(rows: Sequence[Row], seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """``{label: {metric: {"mean", "ci95", "n", "missing"}}}`` of one model's rows.

    A row's ``split`` is its label.
    """
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for label in LABELS:
        chosen = [row for row in rows if row["split"] == label]
        cells[label] = {metric: _cell(chosen, metric, seed) for metric in METRICS}
    return cells


def grid(
    rows: Sequence[Row],
    depth_edges_m: Sequence[float] = DEPTH_EDGES_M,
    height_edges_m: Sequence[float] = HEIGHT_EDGES_M,
) -> dict[str, Any]:
    """Means over cells of depth (first axis) x height, None where no clip lies; for a heat map.

    Rows have ``depth_m`` and ``height_m``; what is outside the edges is left out and counted.
    """
    column = _cell_of(rows, "depth_m", depth_edges_m)
    line = _cell_of(rows, "height_m", height_edges_m)
    shape = (len(depth_edges_m) - 1, len(height_edges_m) - 1)
    inside = (column >= 0) & (column < shape[0]) & (line >= 0) & (line < shape[1])
    means = {m: _cell_means(rows, m, column, line, inside, shape) for m in METRICS}
    count = np.zeros(shape, dtype=int)
    np.add.at(count, (column[inside], line[inside]), 1)
    return {
        "depth_edges_m": list(depth_edges_m),
        "height_edges_m": list(height_edges_m),
        "n": count.tolist(),
        "outside": int((~inside).sum()),
        "mean": means,
    }


def _cell(rows: Sequence[Row], metric: str, seed: int) -> dict[str, Any]:
    values = [row[metric] for row in rows]
    interval = bootstrap_ci([v for v in values if np.isfinite(v)], seed)
    known = interval.n > 0
    return {
        "mean": interval.mean if known else None,
        "ci95": [interval.lo, interval.hi] if known else [None, None],
        "n": interval.n,
        "missing": len(values) - interval.n,
    }


def _cell_of(rows: Sequence[Row], key: str, edges: Sequence[float]) -> np.ndarray:
    values = np.array([row[key] for row in rows], dtype=float)
    index = np.searchsorted(edges, values, side="right") - 1
    return np.where(values == edges[-1], len(edges) - 2, index)


def _cell_means(
    rows: Sequence[Row],
    metric: str,
    column: np.ndarray,
    line: np.ndarray,
    inside: np.ndarray,
    shape: tuple[int, int],
) -> list[list[float | None]]:
    values = np.array([row[metric] for row in rows], dtype=float)
    means: list[list[float | None]] = []
    for i in range(shape[0]):
        cells = [values[inside & (column == i) & (line == j)] for j in range(shape[1])]
        finite = [cell[np.isfinite(cell)] for cell in cells]
        means.append([float(cell.mean()) if len(cell) else None for cell in finite])
    return means
