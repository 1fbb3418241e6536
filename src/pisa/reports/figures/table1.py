"""Table 1: PisaBench results of runs and the paper's rows, as markdown, LaTeX and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.io.files import write_atomic
from pisa.reports.figures import style
from pisa.reports.figures.style import Origin, origin_of, together
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import PublishedRow, compare, markdown, published_table_1
from pisa.reports.table import (
    PUBLISHED_CAVEAT,
    Cell,
    ResultRow,
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
        write_table(given.out, "Table 1", metrics, published_table_1(), origin)


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


_LABEL_SHARE = 0.28  # of the width
_LINE_IN = 0.155
_SMALL = 4.8


def draw_table(table: ResultTable) -> Figure:
    """Published rows in grey, one's own below a rule, with their intervals."""
    columns = [(group, metric) for group in table.groups for metric in group.metrics]
    heights = [1.0 if not row.model else 1.75 for row in table.rows]
    total = 2.6 + sum(heights)
    figure = style.new_figure(style.TEXT_IN, total * _LINE_IN + 0.35)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(total, 0)
    step = (1 - _LABEL_SHARE) / len(columns)
    places = [_LABEL_SHARE + step * (i + 0.5) for i in range(len(columns))]
    _draw_header(axes, table, places, step)
    y, before = 2.4, True
    for row, height in zip(table.rows, heights, strict=True):
        if row.model and before and y > 2.4:
            axes.axhline(y, color=style.INK, linewidth=0.5)
        before = not row.model
        _draw_row(axes, row, [row.cells.get((g.split, m), Cell()) for g, m in columns], places, y)
        y += height
    for line, width in ((0.0, 1.0), (2.3, 0.5), (total - 0.1, 1.0)):
        axes.axhline(line, color=style.INK, linewidth=width)
    return figure


def _draw_header(axes: Axes, table: ResultTable, places: list[float], step: float) -> None:
    first = 0
    for group in table.groups:
        span = places[first : first + len(group.metrics)]
        middle = (span[0] + span[-1]) / 2
        axes.text(middle, 0.65, group.title, ha="center", va="center")
        half = step / 2 - 0.006
        axes.hlines(1.2, span[0] - half, span[-1] + half, color=style.INK, linewidth=0.4)
        for x, metric in zip(span, group.metrics, strict=True):
            axes.text(x, 1.75, table.header(metric), ha="center", va="center")
        first += len(group.metrics)
    axes.text(0.002, 1.75, "Model", va="center")


def _draw_row(axes: Axes, row: ResultRow, cells: list[Cell], places: list[float], y: float) -> None:
    colour = style.INK if row.model else style.GREY
    axes.text(0.002, y + 0.55, row.label, va="center", color=colour, fontsize=7)
    for x, cell in zip(places, cells, strict=True):
        weight = "bold" if cell.best else "normal"
        axes.text(
            x, y + 0.55, cell.value_text, ha="center", va="center", color=colour, weight=weight
        )
        if cell.interval_text:
            axes.text(
                x, y + 1.2, cell.interval_text, ha="center", va="center", color=style.GREY,
                fontsize=_SMALL,
            )  # fmt: skip


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
