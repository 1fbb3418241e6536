"""Tables 1 and 2: one's own results beneath the published rows, as markdown, LaTeX and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pisa.io.files import write_atomic
from pisa.reports.figures import style
from pisa.reports.figures.heat_map import draw_grid
from pisa.reports.figures.origin import Origin, origin_of, together
from pisa.reports.figures.results import read_analysis
from pisa.reports.figures.table_drawing import draw_table, latex_table
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import PublishedRow, published_table_1, published_table_2
from pisa.reports.table import markdown_table, result_table

PAPER_METRICS = ("l2", "chamfer", "iou")  # of Table 1
_NOTES = (
    "Mean and 95 % bootstrap interval over clips; bold: best of our models. Published: the paper's "
    "own models, clips and code; they do not compete."
)


def add_parser(commands: Any) -> None:
    one = commands.add_parser("table1", help="PisaBench results beside the paper's Table 1")
    one.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    style.add_out(one, "table1")
    one.set_defaults(run=_main_1)
    two = commands.add_parser("table2", help="in and out of distribution, and by depth and height")
    two.add_argument("result", type=Path, help="ood.json, or its folder")
    style.add_out(two, "table2")
    two.set_defaults(run=_main_2)


def _main_1(given: argparse.Namespace) -> None:
    runs = read_runs(given.runs)
    merged = merge(runs)
    metrics = build_metrics(
        merged["per_clip"],
        [f for f in merged["failures"] if "metric" not in f],
        protocol=merged["protocol"],
        provenance=merged["provenance"],
        metrics=PAPER_METRICS,
    )
    origin = together(origin_of(run.metrics["provenance"]) for run in runs)
    write_table(given.out, "Table 1", metrics, published_table_1(), origin)


def _main_2(given: argparse.Namespace) -> None:
    document = read_analysis(given.result, "ood")
    origin = origin_of(document["provenance"])
    summary = {model: result["table"] for model, result in document["models"].items()}
    write_table(given.out, "Table 2", {"summary": summary}, published_rows_2(), origin)
    with style.paper_style():
        figure = draw_grid({m: r["grid"] for m, r in document["models"].items()})
        stem = given.out.with_name(f"{given.out.name}_grid")
        title = "Table 2 by depth and height"
        notes = "Mean over the clips of a cell and, small, their number; framed: in distribution."
        paths = style.save(figure, stem, origin, title=title, notes=notes)
    style.report(paths)


def published_rows_2() -> list[PublishedRow]:
    """The paper's Table 2 as one row; its settings ID and OOD are our splits ``id`` and ``ood``."""
    scores = {label.lower(): values for label, values in published_table_2().items()}
    return [PublishedRow("The paper's model", "ours", scores)]


def write_table(
    stem: Path,
    title: str,
    metrics: Mapping[str, Any],
    published: list[PublishedRow],
    origin: Origin,
) -> None:
    """``STEM.md``, ``.tex``, ``.pdf`` and ``.png`` of one table; prints what was written."""
    table = result_table(metrics, published)
    text = f"{markdown_table(metrics, published)}\n{_NOTES} {origin.line()}\n"
    write_atomic(stem.with_name(f"{stem.name}.md"), text.encode())
    latex = f"% {origin.line()}\n{latex_table(table)}"
    write_atomic(stem.with_name(f"{stem.name}.tex"), latex.encode())
    with style.paper_style():
        paths = style.save(draw_table(table), stem, origin, title=title, notes=_NOTES)
    style.report([stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "tex")] + paths)
