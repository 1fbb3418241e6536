"""Validation of metrics.json, schema 1. Every message names the place that is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

KEYS = ("model", "split", "clip", "seed")
STATUSES = ("complete", "incomplete", "partial")  # optional key; absent: complete
_TOP = ("schema", "protocol", "summary", "per_clip", "failures", "provenance")
_PROVENANCE = ("commit", "config_sha256", "data_sha256", "seed", "versions")


def validate_metrics(document: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` where the document is not schema 1."""
    _require(isinstance(document, Mapping), "it is not a JSON object")
    _require_keys(document, _TOP, "the document")
    _require(document["schema"] == 1, f"schema is {document['schema']!r}, expected 1")
    _require(_is_name(document["protocol"]), "protocol is not a name")
    status = document.get("status", "complete")
    _require(status in STATUSES, f"status is {status!r}, expected one of {', '.join(STATUSES)}")
    _validate_summary(document["summary"])
    _validate_rows(document["per_clip"])
    _validate_failures(document["failures"])
    _require(isinstance(document["provenance"], Mapping), "provenance is not an object")
    _require_keys(document["provenance"], _PROVENANCE, "provenance")


def _validate_summary(summary: Any) -> None:
    _require(isinstance(summary, Mapping), "summary is not an object")
    for model, splits in summary.items():
        _require(isinstance(splits, Mapping), f"summary.{model} is not an object")
        for split, cells in splits.items():
            _require(isinstance(cells, Mapping), f"summary.{model}.{split} is not an object")
            for metric, cell in cells.items():
                _validate_cell(cell, f"summary.{model}.{split}.{metric}")


def _validate_cell(cell: Any, place: str) -> None:
    _require(isinstance(cell, Mapping), f"{place} is not an object")
    _require_keys(cell, ("mean", "ci95", "n"), place)
    count, interval = cell["n"], cell["ci95"]
    _require(isinstance(count, int) and count >= 0, f"{place}.n is not a count")
    _require(_is_list(interval) and len(interval) == 2, f"{place}.ci95 is not [low, high]")
    _require(all(_is_number_or_none(x) for x in interval), f"{place}.ci95 holds a non-number")
    _require(_is_number_or_none(cell["mean"]), f"{place}.mean is not a finite number")
    _require((cell["mean"] is None) == (count == 0), f"{place}: mean and n = {count} disagree")
    low, high = interval
    if low is not None and high is not None:
        _require(low <= high, f"{place}.ci95 is not [low, high]")


def _validate_rows(rows: Any) -> None:
    _require(_is_list(rows), "per_clip is not a list")
    seen = set()
    for i, row in enumerate(rows):
        place = f"per_clip[{i}]"
        _require(isinstance(row, Mapping), f"{place} is not an object")
        _require_keys(row, KEYS, place)
        for key in ("model", "split", "clip"):
            _require(_is_name(row[key]), f"{place}.{key} is not a name")
        for key, value in row.items():
            fits = key in KEYS or isinstance(value, str | bool) or _is_number_or_none(value)
            _require(fits, f"{place}.{key} is not a finite number, text or null")
        identity = tuple(row[key] for key in KEYS)
        _require(identity not in seen, f"{place} repeats {identity}")
        seen.add(identity)


def _validate_failures(failures: Any) -> None:
    _require(_is_list(failures), "failures is not a list")
    for i, failure in enumerate(failures):
        _require(isinstance(failure, Mapping), f"failures[{i}] is not an object")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _require_keys(value: Mapping[str, Any], keys: Sequence[str], place: str) -> None:
    missing = [key for key in keys if key not in value]
    _require(not missing, f"{place} lacks {', '.join(missing)}")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number_or_none(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(value))
