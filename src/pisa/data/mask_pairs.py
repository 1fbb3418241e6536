"""The release's evaluation manifest: one JSON line per pair of ground-truth and predicted masks.

``{"gt_mask": PATH, "gt_fps": 120, "pd_mask": PATH, "pd_fps": 16, "gt_annotation": PATH}``; masks
are ``.npy`` or ``.npz``, ``gt_annotation`` (real clips) is a ``clip_info.json`` with ``points`` and
may be absent or null (simulated clips: the last object drops). Relative paths are relative to the
manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pisa.data.mask_files import MaskValues, check_axes, describe, mask_values, read_mask_array
from pisa.errors import PisaError, reason

_NOTED: set[MaskValues] = set()  # one note per kind of values and process
KEYS = ("gt_mask", "gt_fps", "pd_mask", "pd_fps")


@dataclass(frozen=True)
class MaskPair:
    """One line. ``clip`` names the pair: what differs between the paths of the predictions."""

    line: int  # from 1
    clip: str
    gt_mask: Path
    pd_mask: Path
    gt_fps_hz: float
    pd_fps_hz: float
    annotation: Any = None  # a path, or what such a file holds


@dataclass(frozen=True)
class BrokenLine:
    """A line that is no pair, and why."""

    line: int
    problem: str

    @property
    def clip(self) -> str:
        return f"line {self.line}"


def read_pairs(manifest: Path) -> list[MaskPair | BrokenLine]:
    """All lines but empty ones, in order. Raises ``PisaError`` for a manifest without any."""
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PisaError(f"{manifest}: cannot read the manifest: {reason(error)}") from error
    entries = [_parse(text, n, manifest.parent) for n, text in enumerate(lines, 1) if text.strip()]
    if not entries:
        raise PisaError(f"{manifest}: the manifest holds no pairs")
    return _named(entries)


def load_pair(pair: MaskPair) -> tuple[NDArray, NDArray, Sequence[Any] | None]:
    """Ground-truth masks, predicted masks (values as stored) and the points of the annotation.

    Raises ``PisaError`` naming the file for swapped axes and for ambiguous values.
    """
    points = _points(pair)
    return _checked_masks(pair.gt_mask), _checked_masks(pair.pd_mask), points


def _checked_masks(path: Path) -> NDArray:
    masks = read_mask_array(path)
    check_axes(masks, path)
    values = mask_values(masks, path)
    if values not in _NOTED and (note := describe(values, path)):
        _NOTED.add(values)
        print(note, file=sys.stderr)
    return masks


def pairs_sha256(pairs: Sequence[MaskPair | BrokenLine]) -> str:
    """Hash of the contents of all mask files, in order; unreadable ones count as such."""
    digest = hashlib.sha256()
    for pair in pairs:
        paths = (pair.gt_mask, pair.pd_mask) if isinstance(pair, MaskPair) else ()
        for path in paths:
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                digest.update(b"unreadable")
    return digest.hexdigest()


def _parse(text: str, line: int, folder: Path) -> MaskPair | BrokenLine:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BrokenLine(line, f"line {line} of the manifest is not JSON: {reason(error)}")
    if not isinstance(record, dict):
        return BrokenLine(line, f"line {line} of the manifest is not a JSON object")
    missing = [key for key in KEYS if record.get(key) is None]
    if missing:
        return BrokenLine(line, f"line {line} of the manifest lacks {', '.join(missing)}")
    for key in ("gt_mask", "pd_mask"):
        if not isinstance(record[key], str):
            return BrokenLine(line, f"line {line} of the manifest: {key} must be a path")
    for key in ("gt_fps", "pd_fps"):
        if not _is_rate(record[key]):
            return BrokenLine(line, f"line {line} of the manifest: {key} must be a positive number")
    annotation = record.get("gt_annotation") or None
    return MaskPair(
        line=line,
        clip="",
        gt_mask=folder / record["gt_mask"],
        pd_mask=folder / record["pd_mask"],
        gt_fps_hz=float(record["gt_fps"]),
        pd_fps_hz=float(record["pd_fps"]),
        annotation=folder / annotation if isinstance(annotation, str) else annotation,
    )


def _is_rate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _named(entries: list[MaskPair | BrokenLine]) -> list[MaskPair | BrokenLine]:
    """Give each pair a name: its path without what all paths share at either end."""
    parts = [e.pd_mask.with_suffix("").parts for e in entries if isinstance(e, MaskPair)]
    head, tail = _shared(parts), _shared([p[::-1] for p in parts])
    named = [
        replace(e, clip=_name(e.pd_mask, head, tail)) if isinstance(e, MaskPair) else e
        for e in entries
    ]
    counts = Counter(entry.clip for entry in named)
    return [
        replace(e, clip=f"{e.clip}#{e.line}")
        if isinstance(e, MaskPair) and counts[e.clip] > 1
        else e
        for e in named
    ]


def _name(path: Path, head: int, tail: int) -> str:
    own = path.with_suffix("").parts
    if kept := own[head : len(own) - tail]:
        return "/".join(kept)
    return path.parent.name if path.stem == "mask" and path.parent.name else path.stem


def _shared(parts: list[tuple[str, ...]]) -> int:
    """How many leading parts are the same in all paths."""
    columns = zip(*parts, strict=False)
    lengths = (len(p) for p in parts)
    return next((i for i, c in enumerate(columns) if len(set(c)) > 1), min(lengths, default=0))


def _points(pair: MaskPair) -> Sequence[Any] | None:
    content = pair.annotation
    if content is None:
        return None
    if isinstance(content, Path):
        try:
            content = json.loads(content.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise PisaError(f"{pair.annotation}: cannot read: {reason(error)}") from error
    points = content.get("points") if isinstance(content, dict) else content
    if points is not None and not isinstance(points, list):
        raise PisaError(f"{pair.annotation}: points must be a list")
    return points
