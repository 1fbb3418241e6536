"""Published numbers: the paper's (Tables 1 and 2, section 5.2), ours beside them, other papers'."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pisa.errors import PisaError
from pisa.reports.names import SPLITS, metric_label, split_label

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedRow:
    """One row of the paper's Table 1: ``scores[split][metric]``, means without an interval."""

    label: str
    group: str  # "proprietary", "open" or "ours", as the paper groups them
    scores: Mapping[str, Mapping[str, float]]
    models: tuple[str, ...] = ()  # its names in a metrics.json, after spellings of the label


@dataclass(frozen=True)
class PublishedElsewhere:
    """Numbers of another paper: one mean over ``videos`` for each label and metric."""

    paper: str  # and its table
    videos: int
    protocol: str
    caveat: str
    rows: tuple[Mapping[str, Any], ...]  # label and metrics

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(key for key in self.rows[0] if key != "label")

    def lines(self) -> list[str]:
        """Plain text: the paper, a line per row, and what keeps them from being compared."""
        body = [
            f"  {row['label']}: "
            + ", ".join(f"{metric_label(m)} {row[m]:.4f}" for m in self.metrics)
            for row in self.rows
        ]
        head = f"{self.paper}, n = {self.videos} videos"
        return [head, *body, f"  protocol: {self.protocol}; {self.caveat}"]


def published_elsewhere() -> list[PublishedElsewhere]:
    """PisaBench numbers of other papers, which follow protocols of their own."""
    return [
        PublishedElsewhere(**{**entry, "rows": tuple(entry["rows"])})
        for entry in _read()["elsewhere"]
    ]


def published_table_1() -> list[PublishedRow]:
    """The twelve rows of Table 1, in the paper's order."""
    return [
        PublishedRow(
            row["label"],
            row["group"],
            {split: row[split] for split in SPLITS},
            tuple(row.get("models", ())),
        )
        for row in _read()["table_1"]
    ]


def published_table_2() -> dict[str, dict[str, float]]:
    """Table 2: ``{"ID" | "OOD": {metric: value}}``."""
    return {
        row["label"]: {metric: value for metric, value in row.items() if metric != "label"}
        for row in _read()["table_2"]
    }


def published_drop_times() -> dict[str, int]:
    """Section 5.2: ``images``, ``samples`` of each, and how many images ``passed``."""
    return dict(_read()["drop_times"])


def _read() -> dict:
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


NOT_MEASURED = "not measured"
_HEADER = ("Model", "Set", "Metric", "Paper", "Here", "95 %", "n", "Difference", "Paper inside")


@dataclass(frozen=True)
class Comparison:
    """One printed number and the mean measured for the same row, set and metric, if there is one.

    ``measured`` is a cell of metrics.json: mean, ``ci95``, and ``n`` clips.
    """

    label: str
    split: str
    metric: str
    printed: float
    model: str | None  # the row of metrics.json; None: no such model was scored
    measured: Mapping[str, Any] | None

    @property
    def difference(self) -> float | None:
        """Measured minus printed; None where nothing was measured."""
        return None if self.measured is None else self.measured["mean"] - self.printed

    def line(self) -> tuple[str, ...]:
        """The cells of a table's line."""
        head = (self.label, split_label(self.split), metric_label(self.metric))
        if self.measured is None or self.difference is None:
            return (*head, f"{self.printed:.3f}", NOT_MEASURED, "", "", "", "")
        low, high = self.measured["ci95"]
        n, mean = self.measured["n"], f"{self.measured['mean']:.3f}"
        if n < 2 or low is None or high is None:
            interval, inside = "", ""
        else:
            interval = f"[{low:.3f}, {high:.3f}]"
            inside = "yes" if low <= self.printed <= high else "no"
        found = (mean, interval, str(n), f"{self.difference:+.3f}", inside)
        return (*head, f"{self.printed:.3f}", *found)


def compare(
    summary: Mapping[str, Any], names: Mapping[str, str], printed: Sequence[PublishedRow]
) -> list[Comparison]:
    """One entry per printed cell, in the paper's order.

    Args:
        summary: of a metrics.json document.
        names: by the row's name in ``summary``, its name in the run it comes from.

    Raises:
        PisaError: two rows of the runs belong to one row of the paper.
    """
    found = []
    for row in printed:
        model = _row_of(row, names)
        for split in SPLITS:
            for metric, value in row.scores[split].items():
                cell = summary.get(model or "", {}).get(split, {}).get(metric)
                known = cell is not None and cell["mean"] is not None
                found.append(
                    Comparison(row.label, split, metric, value, model, cell if known else None)
                )
    return found


def spelled(name: str) -> str:
    """A model's name without case and punctuation: Open-Sora, open_sora and opensora are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _row_of(row: PublishedRow, names: Mapping[str, str]) -> str | None:
    """The measured row of a published one; its label's spelling goes before other names."""
    for wanted in (row.label, *row.models):
        rivals = [name for name, own in names.items() if spelled(own) == spelled(wanted)]
        if len(rivals) > 1:
            raise PisaError(
                f"{' and '.join(rivals)} both belong to the paper's row {row.label!r}: give one run"
            )
        if rivals:
            return rivals[0]
    return None


def markdown(found: Sequence[Comparison]) -> str:
    """A markdown table, one line per printed cell, and how many were measured."""
    lines = [_HEADER, ("---",) * len(_HEADER), *(entry.line() for entry in found)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n{measured_line(found)}\n"


def measured_line(found: Sequence[Comparison]) -> str:
    """How many of the printed cells were measured, and in how many the paper lies inside."""
    inside = [entry.line()[-1] for entry in found]
    return (
        f"{sum(entry.measured is not None for entry in found)} of {len(found)} printed cells are "
        f"measured; of {sum(text != '' for text in inside)} with an interval, "
        f"{inside.count('yes')} hold the paper's number"
    )
