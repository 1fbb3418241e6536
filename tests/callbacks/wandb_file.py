"""Reads W&B's offline log: LevelDB records of protocol buffers, cut at blocks of 32 KiB."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32 * 1024
_FILE_HEADER = b":W&B"
_FILE_HEADER_BYTES = 7  # the mark, a magic number, a version
_FRAGMENT = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


def read_offline(path: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Configuration and numbers by key of a ``run-*.wandb`` file, which may be cut short."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    assert content.startswith(_FILE_HEADER)
    config: dict[str, Any] = {}
    curves: dict[str, list[float]] = {}
    for part in split_records(content):
        record = Record.FromString(part)
        for update in (record.run.config.update, record.config.update):
            config |= {_key(item): json.loads(item.value_json) for item in update}
        if record.HasField("history"):
            for item in record.history.item:
                value = json.loads(item.value_json)
                if isinstance(value, int | float) and not _key(item).startswith("_"):
                    curves.setdefault(_key(item), []).append(float(value))
    return config, curves


def split_records(content: bytes) -> Iterator[bytes]:
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
