"""Results in the layout of the paper's Table 1: for the terminal and as markdown.

All renderers (HTML too) share one ``ResultTable``. Best means are marked among the models measured
here; the ground-truth row and published rows do not compete (other clips and code, no interval).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pisa.reports.names import (
    TRUTH,
    direction,
    metric_arrow,
    metric_label,
    model_label,
    order_metrics,
    order_models,
    order_splits,
    split_label,
)
from pisa.reports.published import PublishedRow

NO_VALUE = "-"
PUBLISHED_CAVEAT = (
    "published rows are the paper's: official protocol, its clips, models and masks, no interval"
)


@dataclass(frozen=True)
class Cell:
    """One mean; ``low`` and ``high`` are its 95 % interval, ``n`` the clips behind it."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    best: bool = False

    @property
    def value_text(self) -> str:
        return NO_VALUE if self.mean is None else f"{self.mean:z.3f}"

    @property
    def interval_text(self) -> str:
        if self.low is None or self.high is None or self.n == 1:  # one clip has no interval
            return ""
        return f"[{self.low:z.3f}, {self.high:z.3f}]"


@dataclass(frozen=True)
class Group:
    """The columns of one split. Most cells rest on ``n`` clips; the others say so."""

    split: str
    metrics: tuple[str, ...]
    n: int

    @property
    def title(self) -> str:
        return f"{split_label(self.split)}, n = {self.n}"

    def n_text(self, cell: Cell) -> str:
        """The cell's own n where it differs from the title's."""
        return "" if cell.n in (None, self.n) else f"n = {cell.n}"


@dataclass(frozen=True)
class ResultRow:
    """One model, or one published row."""

    label: str
    model: str  # "" for a published row
    cells: Mapping[tuple[str, str], Cell]  # by (split, metric)


@dataclass(frozen=True)
class ResultTable:
    """Rows under groups of columns, one for each split."""

    groups: tuple[Group, ...]
    rows: tuple[ResultRow, ...]

    @property
    def has_best(self) -> bool:
        """Whether a cell is marked, which takes two models."""
        return any(cell.best for row in self.rows for cell in row.cells.values())

    def header(self, metric: str) -> str:
        return f"{metric_label(metric)} {metric_arrow(metric)}".strip()


def result_table(metrics: Mapping[str, Any], published: Sequence[PublishedRow] = ()) -> ResultTable:
    """Rows and column groups of a metrics.json document; published rows come first."""
    summary = metrics["summary"]
    ours = [_our_row(model, summary[model]) for model in order_models(summary)]
    ours = _mark_best(ours)
    printed = [_published_row(row) for row in published]
    shown = order_splits(split for splits in summary.values() for split in splits)
    return ResultTable(tuple(_group(split, ours) for split in shown), tuple(printed + ours))


def rich_tables(table: ResultTable, width: int) -> list[Table]:
    """One table where ``width`` columns hold it, else one table per split."""
    whole = _rich_table(table, table.groups)
    if Console(width=10_000).measure(whole).maximum <= width or len(table.groups) < 2:
        return [whole]
    return [_rich_table(table, (group,)) for group in table.groups]


def print_table(
    metrics: Mapping[str, Any],
    console: Console | None = None,
    published: Sequence[PublishedRow] = (),
) -> None:
    """Print the results to a terminal (standard output by default)."""
    console = console or Console()
    width = console.width
    for table in rich_tables(result_table(metrics, published), width):
        needed = Console(width=10_000).measure(table).maximum
        console.width = max(width, needed)  # long lines rather than means or counts cut off
        console.print(table)
        console.width = width
    console.print(Text(_legend(metrics, published)))
    for pair in metrics.get("paired", ()):
        console.print(Text(_pair_line(pair)))
    if notice := status_notice(metrics):
        console.print(Text(notice, style="bold"))


def _legend(metrics: Mapping[str, Any], published: Sequence[PublishedRow]) -> str:
    """The caption of the printed table; bold is explained only where something is bold."""
    summary = metrics["summary"].values()
    cells = [cell for splits in summary for part in splits.values() for cell in part.values()]
    over = "clips, and runs of several seeds" if any("seeds" in c for c in cells) else "clips"
    parts = [f"mean and 95 % bootstrap interval over {over}"]
    if result_table(metrics).has_best:
        parts.append("bold: best of the models measured here (ties at three decimals are all bold)")
    if published:
        parts.append(PUBLISHED_CAVEAT)
    return "; ".join(parts)


def status_notice(metrics: Mapping[str, Any]) -> str:
    """One line about samples that the means lack; nothing where the run was complete."""
    status = metrics.get("status", "complete")
    if status == "complete":
        return ""
    count = len(metrics["failures"])
    return f"{status}: {count} failure{'' if count == 1 else 's'}; the means lack those samples"


def _pair_line(pair: Mapping[str, Any]) -> str:
    """One paired difference: first model minus second on the same clips."""
    name = f"{model_label(pair['a'])} minus {model_label(pair['b'])}, {split_label(pair['split'])}"
    parts = []
    for metric, cell in pair["cells"].items():
        text = f"{metric_label(metric)} {cell['mean']:+z.3f}"
        if cell["n"] > 1:
            text += f" [{cell['ci95'][0]:+z.3f}, {cell['ci95'][1]:+z.3f}]"
        parts.append(f"{text} (n = {cell['n']})")
    return f"{name}: " + ", ".join(parts)


def markdown_table(metrics: Mapping[str, Any], published: Sequence[PublishedRow] = ()) -> str:
    """A markdown table; the best of the models measured here is bold."""
    lines = [
        [text.replace("|", "\\|") for text in line]
        for line in _lines(result_table(metrics, published))
    ]
    ruler = ["---"] + ["---:"] * (len(lines[0]) - 1)
    rows = [lines[0], ruler, *lines[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _our_row(model: str, splits: Mapping[str, Any]) -> ResultRow:
    cells = {
        (split, metric): Cell(c["mean"], c["ci95"][0], c["ci95"][1], c["n"])
        for split, by_metric in splits.items()
        for metric, c in by_metric.items()
    }
    found = [len(c.get("seeds", ())) for by_metric in splits.values() for c in by_metric.values()]
    seeds = max(found, default=0)
    label = f"{model_label(model)} ({seeds} seeds)" if seeds else model_label(model)
    return ResultRow(label, model, cells)


def _published_row(row: PublishedRow) -> ResultRow:
    cells = {
        (split, metric): Cell(mean)
        for split, by_metric in row.scores.items()
        for metric, mean in by_metric.items()
    }
    return ResultRow(f"{row.label} (published)", "", cells)


def _mark_best(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Ties at the printed precision are all best; a lone model is not compared with anything."""
    rivals = [row for row in rows if row.model not in (TRUTH, "frozen")]  # no models
    best = set()
    for key in {key for row in rivals for key in row.cells}:
        values = {r.model: _rank(r.cells[key], key[1]) for r in rivals if key in r.cells}
        ranked = {model: value for model, value in values.items() if value is not None}
        if len(ranked) > 1:
            best |= {(m, key) for m, value in ranked.items() if value == max(ranked.values())}
    return [_with_best(row, best) for row in rows]


def _rank(cell: Cell, metric: str) -> float | None:
    if cell.mean is None or not direction(metric):
        return None
    return direction(metric) * round(cell.mean, 3)


def _with_best(row: ResultRow, best: set) -> ResultRow:
    cells = {
        key: Cell(c.mean, c.low, c.high, c.n, best=(row.model, key) in best)
        for key, c in row.cells.items()
    }
    return ResultRow(row.label, row.model, cells)


def _group(split: str, rows: Sequence[ResultRow]) -> Group:
    keys = [key for row in rows for key in row.cells if key[0] == split]
    counts = Counter(row.cells[key].n for row in rows for key in row.cells if key[0] == split)
    names = tuple(order_metrics(metric for _, metric in keys))
    return Group(split, names, max(counts, key=lambda n: (counts[n], n or 0)) or 0)


def _columns(table: ResultTable, groups: Iterable[Group]) -> list[tuple[Group, str]]:
    return [(group, metric) for group in groups for metric in group.metrics]


def _lines(table: ResultTable) -> list[list[str]]:
    columns = _columns(table, table.groups)
    header = ["Model"] + [f"{group.title}: {table.header(metric)}" for group, metric in columns]
    body = [
        [row.label]
        + [_one_line(row.cells.get((g.split, metric), Cell()), g) for g, metric in columns]
        for row in table.rows
    ]
    return [header, *body]


def _one_line(cell: Cell, group: Group) -> str:
    value = f"**{cell.value_text}**" if cell.best else cell.value_text
    count = f"({group.n_text(cell)})" if group.n_text(cell) else ""
    return " ".join(part for part in (value, cell.interval_text, count) if part)


def _rich_table(table: ResultTable, groups: Sequence[Group]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    drawn.add_column("\nModel", no_wrap=True)
    for group in groups:
        for i, metric in enumerate(group.metrics):
            title = group.title if i == 0 else ""
            drawn.add_column(Text(f"{title}\n{table.header(metric)}"), no_wrap=True)
    for row in table.rows:
        cells = [row.cells.get((g.split, m), Cell()) for g, m in _columns(table, groups)]
        counts = [g.n_text(c) for (g, _), c in zip(_columns(table, groups), cells, strict=True)]
        texts = [_rich_cell(cell, count) for cell, count in zip(cells, counts, strict=True)]
        drawn.add_row(Text(row.label), *texts)
    return drawn


def _rich_cell(cell: Cell, count: str) -> Text:
    text = Text(cell.value_text, style="bold" if cell.best else "")
    for line in (cell.interval_text, count):
        if line:
            text.append(f"\n{line}", style="dim not bold")
    return text
