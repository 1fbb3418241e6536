"""Table 1: PisaBench results of runs and the paper's rows, as markdown, LaTeX and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pisa.io.files import write_atomic
from pisa.reports.figures import style
from pisa.reports.figures.origin import Origin, origin_of, together
from pisa.reports.figures.table_drawing import draw_table, latex_table
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import PublishedRow, published_table_1
from pisa.reports.table import markdown_table, result_table

PAPER_METRICS = ("l2", "chamfer", "iou")  # of Table 1
_NOTES = (
    "Mean and 95 % bootstrap interval over clips; bold: best of our models. Published: the paper's "
    "own models, clips and code; they do not compete."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    style.add_out(parser, "table1")


def main(given: argparse.Namespace) -> None:
    """Write the table of the given runs."""
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
