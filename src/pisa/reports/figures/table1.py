"""Table 1: PisaBench results of runs and the paper's rows, as markdown and LaTeX."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pisa.io.files import write_atomic
from pisa.reports.figures import style
from pisa.reports.figures.style import Origin, origin_of, together
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import PublishedRow, compare, markdown, published_table_1
from pisa.reports.table import (
    PUBLISHED_CAVEAT,
    Cell,
    ResultTable,
    markdown_table,
    result_table,
)

PAPER_METRICS = ("l2", "chamfer", "iou")  # of Table 1
_NOTES = (
    "Mean and 95 % bootstrap interval over clips; bold: best of the models measured here. "
    "Published: the paper's own models, clips and code; they do not compete."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    parser.add_argument(
        "--against-paper", action="store_true", help="every printed cell beside the measured one"
    )
    style.add_out(parser, "table1")


def main(given: argparse.Namespace) -> None:
    """Write the table of the given runs; ``--against-paper`` compares cell by cell."""
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
    if given.against_paper:
        names = {name: own for run in runs for own, name in run.names.items()}
        write_comparison(given.out, metrics, names, origin)
    else:
        write_table(given.out, metrics, published_table_1(), origin)


def write_comparison(
    stem: Path, metrics: Mapping[str, Any], names: Mapping[str, str], origin: Origin
) -> None:
    """Print and write ``STEM_against_paper.md``: all 108 printed cells (12 rows, 3 sets)."""
    found = compare(metrics["summary"], names, published_table_1())
    notes = [PUBLISHED_CAVEAT]
    if any(entry.model == "base" for entry in found):
        notes.append("base is sampled as it is trained, the paper's Open-Sora as Table 4 says")
    if metrics["protocol"] != "official":
        notes.append(f"these runs follow protocol={metrics['protocol']}, the paper official")
    path = stem.with_name(f"{stem.name}_against_paper.md")
    text = f"{markdown(found)}\n{'; '.join(notes)}. {origin.line()}\n"
    write_atomic(path, text.encode())
    print(text)
    style.report([path])


def write_table(
    stem: Path, metrics: Mapping[str, Any], published: list[PublishedRow], origin: Origin
) -> None:
    """``STEM.md`` and ``STEM.tex`` of one table; prints what was written."""
    text = f"{markdown_table(metrics, published)}\n{_NOTES} {origin.line()}\n"
    write_atomic(stem.with_name(f"{stem.name}.md"), text.encode())
    latex = f"% {origin.line()}\n{latex_table(result_table(metrics, published))}"
    write_atomic(stem.with_name(f"{stem.name}.tex"), latex.encode())
    style.report([stem.with_name(f"{stem.name}.{kind}") for kind in ("md", "tex")])


def latex_table(table: ResultTable) -> str:
    """A ``tabular`` with the rules of booktabs; the best of the models measured here is bold."""
    columns = [(group, metric) for group in table.groups for metric in group.metrics]
    titles = [rf"\multicolumn{{{len(g.metrics)}}}{{c}}{{{_escape(g.title)}}}" for g in table.groups]
    headers = [_escape(table.header(metric)) for _, metric in columns]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines += [" & ".join(["", *titles]) + r" \\", " & ".join(["Model", *headers]) + r" \\"]
    own = False
    for row in table.rows:
        if not own and row.model:
            lines.append(r"\midrule")
        own = bool(row.model)
        cells = [_latex_cell(row.cells.get((g.split, m), Cell())) for g, m in columns]
        lines.append(" & ".join([_escape(row.label), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cell(cell: Cell) -> str:
    value = rf"\textbf{{{cell.value_text}}}" if cell.best else cell.value_text
    return rf"{value} {{\tiny {cell.interval_text}}}" if cell.interval_text else value


def _escape(text: str) -> str:
    for old, new in (("_", r"\_"), ("%", r"\%"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$")):
        text = text.replace(old, new)
    return text
