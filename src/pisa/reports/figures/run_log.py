"""Settings, curves and final scores of a training run, for Figure 5.

A run is named by its folder (a CSV log, else W&B's offline file in it), by a ``run-*.wandb`` file,
or by ``wandb:ENTITY/PROJECT/RUN`` on the server.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pisa.errors import PisaError
from pisa.io.provenance import SETTINGS, settings_of
from pisa.reports.curves import read_csv_logger
from pisa.reports.figures.origin import Origin, origin_of
from pisa.reports.metrics_json import read_metrics

_PREFIX = "pisabench/"

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class RunLog:
    """``curves[split, metric]``: (optimiser steps taken, mean); ``scores``: a model's summary."""

    name: str
    initialisation: str  # "pre-trained", "random" or "unknown"
    train_clips: int | None
    max_steps: int | None
    curves: Mapping[tuple[str, str], Points]
    scores: Mapping[str, Mapping[str, Any]]
    origin: Origin


def read_run(place: str) -> RunLog:
    """Raises ``PisaError`` where there is no log, or none of PisaBench."""
    if place.startswith("wandb:"):
        config, curves = read_online(place.removeprefix("wandb:"))
        return _run(place, config.get(SETTINGS, {}), curves, {}, Origin())
    path = Path(place)
    if path.suffix == ".wandb":
        config, curves = read_offline(path)
        return _run(path.stem, config.get(SETTINGS, {}), curves, {}, Origin())
    if not path.is_dir():
        raise PisaError(f"{path}: no such run folder")
    settings, curves = _read_folder(path)
    metrics = read_metrics(path / "metrics.json") if (path / "metrics.json").is_file() else None
    origin = Origin() if metrics is None else origin_of(metrics["provenance"])
    scores = {} if metrics is None else metrics["summary"].get(settings.get("name"), {})
    return _run(path.name, settings, curves, scores, origin)


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Points]]:
    """Settings from config.yaml, else from the logs; curves from the CSV log, else from W&B."""
    logs = sorted(folder.glob("wandb/*run-*/run-*.wandb"))
    config: Mapping[str, Any] = {}
    curves: dict[str, Points] = {}
    if (folder / "csv" / "metrics.csv").is_file():
        curves = read_csv_logger(folder / "csv" / "metrics.csv")
    for log in logs if not curves else []:  # a resumed run has several
        config, part = read_offline(log)
        for key, points in part.items():
            curves.setdefault(key, []).extend(points)
    if not curves and not (folder / "metrics.json").is_file():
        raise PisaError(f"{folder}: holds no csv/metrics.csv, no W&B log and no metrics.json")
    if (folder / "config.yaml").is_file():
        return _settings_in(folder / "config.yaml"), curves
    if (folder / "csv" / "hparams.yaml").is_file():  # of a first stage, which has no config.yaml
        config = _hyperparameters(folder / "csv" / "hparams.yaml")
    return dict(config.get(SETTINGS, {})), curves


def _hyperparameters(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise PisaError(f"{path}: cannot read ({error})") from error


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return settings_of(config, config["stages"][0])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PisaError(f"{path}: is no configuration of a training run ({error})") from error


def _run(
    name: str,
    settings: Mapping[str, Any],
    logged: Mapping[str, Points],
    scores: Mapping[str, Any],
    origin: Origin,
) -> RunLog:
    curves = {
        (split, metric): [(step + 1, value) for step, value in points]  # logged from 0
        for key, points in logged.items()
        if key.startswith(_PREFIX) and key.count("/") == 2 and not key.endswith("n")
        for split, metric in [key.removeprefix(_PREFIX).split("/")]
    }
    if not curves and not scores:
        raise PisaError(f"{name}: its log holds no scores of PisaBench (callbacks.pisabench)")
    return RunLog(
        name=name,
        initialisation=settings.get("initialisation", "unknown"),
        train_clips=settings.get("train_clips"),
        max_steps=settings.get("max_steps"),
        curves=curves,
        scores=scores,
        origin=origin,
    )


_BLOCK = 32 * 1024
_FILE_HEADER = b":W&B"
_FILE_HEADER_BYTES = 7  # the mark, a magic number, a version
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
_STEP = "trainer/global_step"

Curves = dict[str, list[tuple[int, float]]]


def read_offline(path: Path) -> tuple[dict[str, Any], Curves]:
    """Configuration and curves of a ``run-*.wandb`` file; a run in progress is cut short.

    Raises ``PisaError`` for a file that is none.
    """
    # Importing wandb takes seconds; its messages are generated at run time.
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    try:
        content = path.read_bytes()
    except OSError as error:
        raise PisaError(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(_FILE_HEADER):
        raise PisaError(f"{path}: is no W&B offline log")
    config: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for part in _records(content):
        record = Record.FromString(part)
        for update in (record.run.config.update, record.config.update):
            config |= {_key(item): json.loads(item.value_json) for item in update}
        if record.HasField("history"):
            rows.append({_key(i): json.loads(i.value_json) for i in record.history.item})
    return config, _curves(rows)


def read_online(run: str) -> tuple[dict[str, Any], Curves]:
    """Configuration and curves of ``ENTITY/PROJECT/RUN``. Raises ``PisaError`` without access."""
    import wandb

    try:
        found = wandb.Api().run(run)
        return dict(found.config), _curves(found.scan_history())
    except (wandb.errors.Error, ValueError) as error:
        raise PisaError(f"wandb:{run}: cannot read: {' '.join(str(error).split())}") from error


def _records(content: bytes) -> Iterator[bytes]:
    """Whole records; ends at the first that is incomplete."""
    place, parts = _FILE_HEADER_BYTES, b""
    while place + _FRAGMENT.size <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _FRAGMENT.size:  # padding at the end of a block
            place += left
            continue
        _, length, kind = _FRAGMENT.unpack_from(content, place)
        place += _FRAGMENT.size
        if kind == 0 or place + length > len(content):
            return
        parts += content[place : place + length]
        place += length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _curves(rows: Iterable[Mapping[str, Any]]) -> Curves:
    """Numbers by key over the optimiser's step, in its order."""
    curves: Curves = {}
    for row in rows:
        if (step := row.get(_STEP)) is None:
            continue
        for key, value in row.items():
            if isinstance(value, int | float) and not key.startswith("_") and key != _STEP:
                curves.setdefault(key, []).append((int(step), float(value)))
    return {key: sorted(points, key=lambda p: p[0]) for key, points in curves.items()}
