"""A ``ResultTable`` as a picture of text and rules, and as LaTeX."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.reports.figures import style
from pisa.reports.table import Cell, ResultRow, ResultTable

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
    """A ``tabular`` with the rules of booktabs; the best of our models is bold."""
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
