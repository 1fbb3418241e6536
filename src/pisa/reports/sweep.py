"""Table of a sweep's or a search's members: `pisa sweep FOLDER`."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.reports.metrics_json import read_metrics
from pisa.reports.names import order_metrics, order_splits

SHOWN = ("l2", "iou")
_PREFIX = "member-"


@dataclass
class Member:
    """One run. ``folder`` holds its metrics.json, in which ``name`` is its row."""

    number: int
    overrides: list[str]
    folder: str
    name: str
    status: str = "running"  # stays so where the process was killed
    error: str | None = None
    seconds: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of the sweep: runs/sweeps/DATE_TIME")


def main(given: argparse.Namespace) -> None:
    summarise(given.folder)


def write_member(folder: Path, member: Member) -> None:
    """Replace the member's record in the sweep's folder."""
    text = json.dumps(asdict(member), indent=1)
    write_atomic(folder / f"{_PREFIX}{member.number:04d}.json", text.encode())


def read_members(folder: Path) -> list[Member]:
    """In order of number. Raises ``PisaError`` where there are none, or for a broken record."""
    members = []
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        try:
            members.append(Member(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise PisaError(f"{path}: is not a record of a sweep's member ({error})") from error
    if not members:
        raise PisaError(f"{folder}: holds no records of a sweep's members")
    return members


def summarise(folder: Path) -> int:
    """Print the table, write ``sweep.csv``; how many members did not finish."""
    members = read_members(folder)
    rows = table_rows(members)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "sweep.csv", buffer.getvalue().encode())
    _print(rows)
    for member in members:
        if member.status != "finished":
            print(f"not finished: member {member.number}: {member.error or 'it was killed'}")
    print(f"sweep: {folder / 'sweep.csv'}")
    return sum(member.status != "finished" for member in members)


def table_rows(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Number, the overrides in which members differ, status, time, and the means of each split."""
    given = [dict(o.split("=", 1) for o in member.overrides if "=" in o) for member in members]
    keys = list(dict.fromkeys(key for values in given for key in values))
    varied = [key for key in keys if len({values.get(key) for values in given}) > 1]
    rows = []
    for member, values in zip(members, given, strict=True):
        row: dict[str, Any] = {"member": member.number}
        row |= {key: values.get(key, "") for key in varied}
        minutes = "" if member.seconds is None else f"{member.seconds / 60:.1f}"
        rows.append(row | {"status": member.status, "minutes": minutes} | scores_of(member))
    return rows


def scores_of(member: Member) -> dict[str, float]:
    """``{"sim_seen/l2": mean, ...}`` of what the member trained; empty where it is not scored."""
    path = Path(member.folder) / "metrics.json"
    if not path.is_file():
        return {}
    scores: Mapping[str, Any] = read_metrics(path)["summary"].get(member.name, {})
    return {
        f"{split}/{metric}": scores[split][metric]["mean"]
        for split in order_splits(scores)
        for metric in order_metrics(scores[split])
        if metric in SHOWN and scores[split][metric]["mean"] is not None
    }


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title="Sweep")
    for row in rows:
        cells = (row.get(column, "-") for column in columns)
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=None if Console().is_terminal else 160).print(table)
