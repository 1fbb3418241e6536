"""metrics.json, schema 1: build from per-clip rows, validate, write, read, compare two models.

A clip sampled with several seeds counts once: its values are averaged over seeds before the
bootstrap, because samples of one clip are not independent. A value that is missing or not finite
is written as null, listed under ``failures`` and left out of the mean; ``n`` beside each mean is
the number of clips it was taken over.

Rows of several training runs that differ in their seed carry ``run_seed`` (``pisa.reports.seeds``):
the bootstrap then resamples runs as well as clips, and a cell lists the runs' own means as
``seeds``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pisa.bench.row import METRICS
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.metrics.statistics import bootstrap_ci, crossed_ci
from pisa.reports.names import direction, order_metrics, order_models, order_splits

Row = Mapping[str, Any]


def build_metrics(
    rows: Sequence[Row],
    failures: Sequence[Mapping[str, Any] | str],
    *,
    protocol: str,
    provenance: Mapping[str, Any],
    metrics: Sequence[str] = METRICS,
) -> dict[str, Any]:
    """The whole document, validated.

    ``rows`` hold ``model``, ``split``, ``clip``, ``seed`` and one number per metric; a metric that
    a row does not carry at all (time error of real clips) is not a failure, a NaN is. Other
    numbers (frame counts) stay in ``per_clip`` and aren't averaged. ``metrics`` names what is
    averaged. Raises ``ValueError`` for rows that break the schema or appear twice.
    """
    per_clip = [_clean_row(row, metrics) for row in rows]
    listed = [{"reason": f} if isinstance(f, str) else dict(f) for f in failures]
    document = {
        "schema": 1,
        "protocol": protocol,
        "summary": summarise(per_clip, metrics, seed=int(provenance.get("seed") or 0)),
        "per_clip": per_clip,
        "failures": listed + _not_finite(per_clip, metrics),
        "provenance": dict(provenance),
    }
    validate_metrics(document)
    return document


def summarise(
    per_clip: Sequence[Row], metrics: Sequence[str], *, seed: int
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """``{model: {split: {metric: {"mean", "ci95", "n", "coverage"}}}}``.

    Intervals are bootstrapped over clips. ``coverage`` is the mean fraction of the true clips' time
    that the scores are over, where the rows record it; partial rows count in no mean.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in per_clip:
        groups[row["model"], row["split"]].append(row)
    summary: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for model in order_models(model for model, _ in groups):
        splits = order_splits(split for name, split in groups if name == model)
        summary[model] = {s: _summarise_rows(groups[model, s], metrics, seed) for s in splits}
    return summary


def paired_summary(metrics: Mapping[str, Any], a: str, b: str) -> dict[str, dict[str, Any]]:
    """Mean of (a - b) per split and metric, over the clips and seeds that both models have.

    ``{split: {metric: {"mean", "ci95", "n", "a_better", "ties"}}}``; ``a_better`` counts the clips
    on which ``a`` is strictly better (None where a metric has no known direction), ``ties`` those
    with equal values. Negative L2, chamfer and time-error differences and positive IoU differences
    favour ``a``.
    Raises ``PisaError`` for a model that has no rows.
    """
    rows_a, rows_b = _rows_of(metrics, a), _rows_of(metrics, b)
    seed = int(metrics["provenance"].get("seed") or 0)
    names = _metric_names(metrics["summary"])
    own = [{key[0] for run in rows.values() for key in run} for rows in (rows_a, rows_b)]
    splits = order_splits(
        row["split"] for row in metrics["per_clip"] if row["split"] in own[0] & own[1]
    )
    result = {s: {m: _paired(rows_a, rows_b, s, m, seed) for m in names} for s in splits}
    kept = {s: {m: cell for m, cell in cells.items() if cell["n"]} for s, cells in result.items()}
    return {split: cells for split, cells in kept.items() if cells}


def write_metrics(path: Path | str, metrics: Mapping[str, Any]) -> None:
    """Validate and write as UTF-8 JSON, atomically. NaN never reaches the file."""
    validate_metrics(metrics)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(Path(path), (text + "\n").encode("utf-8"))


def read_metrics(path: Path | str) -> dict[str, Any]:
    """Read and validate; raises ``PisaError`` naming the file and what is wrong with it."""
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        validate_metrics(document)
    except OSError as error:
        raise PisaError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise PisaError(f"{path} is not a metrics.json of schema 1: {error}") from error
    return document


def newest(folder: Path, pattern: str, command: str) -> Path:
    """The folder whose file or folder ``pattern`` (of the form "NAME/FILE") changed last.

    Raises ``PisaError`` where there is none; ``command`` says how to make one.
    """
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise PisaError(f"{folder.resolve()} has no {pattern}: {command}")
    return found[-1].parent


def _clean_row(row: Row, metrics: Sequence[str]) -> dict[str, Any]:
    """Plain Python numbers; every non-finite number becomes None."""
    clean: dict[str, Any] = {}
    for key, value in row.items():
        number = value.item() if hasattr(value, "item") else value  # numpy or torch scalar
        if key in metrics and number is not None:
            number = float(number)
        if isinstance(number, float) and not math.isfinite(number):
            number = None
        clean[key] = number
    return clean


def _not_finite(per_clip: Iterable[Row], metrics: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {key: row[key] for key in (*KEYS, "run_seed") if key in row}
        | {"metric": metric, "reason": f"{metric} is not a number; left out of the mean"}
        for row in per_clip
        for metric in metrics
        if metric in row and row[metric] is None
    ]


def _summarise_rows(rows: Sequence[Row], metrics: Sequence[str], seed: int) -> dict[str, Any]:
    present = [metric for metric in metrics if any(metric in row for row in rows)]
    whole = [row for row in rows if not row.get("partial")]
    cells = {metric: _cell(whole, metric, seed) for metric in present}
    covered = _clip_means(whole, "coverage")
    coverage = {"coverage": math.fsum(covered) / len(covered)} if covered else {}
    return {metric: cell | coverage for metric, cell in cells.items()}


def _clip_means(rows: Iterable[Row], metric: str) -> list[float]:
    """One value per clip: the mean over the samples with a finite value."""
    return list(_means_by_clip(rows, metric).values())


def _means_by_clip(rows: Iterable[Row], metric: str) -> dict[str, float]:
    by_clip: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(metric) is not None:
            by_clip[row["clip"]].append(row[metric])
    return {clip: math.fsum(values) / len(values) for clip, values in by_clip.items()}


def clip_values(rows: Sequence[Row], metric: str, clips: Sequence[str]) -> NDArray[np.floating]:
    """Means ``[runs, clips]`` over the samples of each clip, by run; NaN where there is none."""
    runs = [_means_by_clip(own, metric) for own in _by_run(rows).values()]
    return np.array([[own.get(clip, math.nan) for clip in clips] for own in runs])


def _by_run(rows: Iterable[Row]) -> dict[int | None, list[Row]]:
    """Rows of the training runs that differ in their seed; of a single run under None."""
    runs: dict[int | None, list[Row]] = defaultdict(list)
    for row in rows:
        runs[row.get("run_seed")].append(row)
    return dict(runs)


def _cell(rows: Sequence[Row], metric: str, seed: int) -> dict[str, Any]:
    clips = list(_means_by_clip(rows, metric))
    if not clips:
        return {"mean": None, "ci95": [None, None], "n": 0}
    values = clip_values(rows, metric, clips)
    found = bootstrap_ci(values[0], seed) if len(values) == 1 else crossed_ci(values, seed)
    cell = {"mean": float(found.mean), "ci95": [_finite(found.lo), _finite(found.hi)]}
    cell["n"] = len(clips)
    if len(values) > 1:
        own = zip(_by_run(rows), values, strict=True)
        cell["seeds"] = {str(run): float(np.nanmean(row)) for run, row in own}
    return cell


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rows_of(metrics: Mapping[str, Any], model: str) -> dict[Any, dict[tuple[Any, ...], Row]]:
    """Rows by split, clip and sample, for each training run."""
    rows = [row for row in rows_by_model(metrics).get(model, []) if not row.get("partial")]
    if not rows:
        raise PisaError(f"no clip was scored for model {model!r}, so it cannot be compared")
    keys = ("split", "clip", "seed")
    return {
        run: {tuple(row[key] for key in keys): row for row in own}
        for run, own in _by_run(rows).items()
    }


def rows_by_model(metrics: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows of each model, in their order."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in metrics["per_clip"]:
        rows[row["model"]].append(row)
    return dict(rows)


def _metric_names(summary: Mapping[str, Any]) -> list[str]:
    cells = [split for splits in summary.values() for split in splits.values()]
    return order_metrics(metric for split in cells for metric in split)


def _paired(rows_a: Mapping, rows_b: Mapping, split: str, metric: str, seed: int) -> dict[str, Any]:
    """Runs of both are paired in order; a single run of one is paired with each of the other."""
    count = max(len(rows_a), len(rows_b))
    pairs = [list(rows.items()) * (count if len(rows) == 1 else 1) for rows in (rows_a, rows_b)]
    differences = [
        {"clip": key[1], metric: a[key][metric] - b[key][metric], "run_seed": run}
        for (run_a, a), (run_b, b) in zip(*pairs, strict=False)
        for run in [run_b if run_a is None else run_a]
        for key in a.keys() & b.keys()
        if key[0] == split and a[key].get(metric) is not None and b[key].get(metric) is not None
    ]
    differences.sort(key=lambda row: row["clip"])
    values = _clip_means(differences, metric)
    sign = direction(metric)
    better = sum(sign * value > 0 for value in values) if sign else None
    cell = _cell(differences, metric, seed)
    return cell | {"a_better": better, "ties": sum(v == 0 for v in values)}


KEYS = ("model", "split", "clip", "seed")
STATUSES = ("complete", "incomplete", "partial")  # optional key; absent: complete
_TOP = ("schema", "protocol", "summary", "per_clip", "failures", "provenance")
_PROVENANCE = ("commit", "config_sha256", "data_sha256", "seed", "versions")


def validate_metrics(document: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` where the document is not schema 1."""
    _check_object(document, "the document", _TOP)
    _require(document["schema"] == 1, f"schema is {document['schema']!r}, expected 1")
    _require(_is_name(document["protocol"]), "protocol is not a name")
    status = document.get("status", "complete")
    _require(status in STATUSES, f"status is {status!r}, expected one of {', '.join(STATUSES)}")
    _check_object(document["summary"], "summary")
    for model, splits in document["summary"].items():
        _check_object(splits, f"summary.{model}")
        for split, cells in splits.items():
            _check_object(cells, f"summary.{model}.{split}")
            for metric, cell in cells.items():
                _validate_cell(cell, f"summary.{model}.{split}.{metric}")
    _validate_rows(document["per_clip"])
    _require(_is_list(document["failures"]), "failures is not a list")
    for i, failure in enumerate(document["failures"]):
        _check_object(failure, f"failures[{i}]")
    _check_object(document["provenance"], "provenance", _PROVENANCE)


def _validate_cell(cell: Any, place: str) -> None:
    _check_object(cell, place, ("mean", "ci95", "n"))
    mean, count, interval = cell["mean"], cell["n"], cell["ci95"]
    _require(isinstance(count, int) and count >= 0, f"{place}.n is not a count")
    _require(_is_list(interval) and len(interval) == 2, f"{place}.ci95 is not [low, high]")
    _require(all(_is_number_or_none(x) for x in interval), f"{place}.ci95 holds a non-number")
    _require(_is_number_or_none(mean), f"{place}.mean is not a finite number")
    _require((mean is None) == (count == 0), f"{place}: mean and n = {count} disagree")
    _require(None in interval or interval[0] <= interval[1], f"{place}.ci95 is not [low, high]")


def _validate_rows(rows: Any) -> None:
    _require(_is_list(rows), "per_clip is not a list")
    seen = set()
    for i, row in enumerate(rows):
        place = f"per_clip[{i}]"
        _check_object(row, place, KEYS)
        for key in ("model", "split", "clip"):
            _require(_is_name(row[key]), f"{place}.{key} is not a name")
        for key, value in row.items():
            fits = key in KEYS or isinstance(value, str | bool) or _is_number_or_none(value)
            _require(fits, f"{place}.{key} is not a finite number, text or null")
        identity = tuple(row.get(key) for key in (*KEYS, "run_seed"))
        _require(identity not in seen, f"{place} repeats {identity}")
        seen.add(identity)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_object(value: Any, place: str, keys: Sequence[str] = ()) -> None:
    _require(isinstance(value, Mapping), f"{place} is not an object")
    missing = [key for key in keys if key not in value]
    _require(not missing, f"{place} lacks {', '.join(missing)}")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number_or_none(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(value))
