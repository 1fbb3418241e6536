"""Curves and settings of a W&B run: from its offline file, or from the server.

The offline file is a log of protocol buffers in LevelDB's record format: blocks of 32 KiB that hold
fragments, each with a checksum, a length and a type (whole, first, middle, last).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pisa.types import PisaError

_BLOCK = 32 * 1024
_FILE_HEADER = b":W&B"
_FILE_HEADER_BYTES = 7  # the mark, a magic number, a version
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
_STEP = "trainer/global_step"

Curves = dict[str, list[tuple[int, float]]]


def read_offline(path: Path) -> tuple[dict[str, Any], Curves]:
    """Configuration and curves of a ``run-*.wandb`` file; a run that still goes on is cut short.

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
