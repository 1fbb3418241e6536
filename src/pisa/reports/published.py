"""The numbers printed in the paper (Tables 1 and 2, section 5.2), for comparison beside our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pisa.reports.names import SPLITS

_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedRow:
    """One row of the paper's Table 1: ``scores[split][metric]``, means without an interval."""

    label: str
    group: str  # "proprietary", "open" or "ours", as the paper groups them
    scores: Mapping[str, Mapping[str, float]]
    models: tuple[str, ...] = ()  # its names in a metrics.json, after spellings of the label


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
