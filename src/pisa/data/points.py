"""The annotated points of real clips, and what becomes of them when frames are rescaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pisa.perception.base import ObjectPoints
from pisa.types import PisaError

Size = tuple[int, int]  # height, width


def parse_points(info: Mapping[str, Any], folder: Path) -> list[ObjectPoints]:
    """``points`` of a ``clip_info.json``, one entry per object.

    Raises ``PisaError`` where there are none or an object has no positive point.
    """
    path = folder / "clip_info.json"
    entries = info.get("points")
    if not entries:
        raise PisaError(f'{path}: has no points; add [{{"positive": [[x, y]], "negative": []}}]')
    try:
        objects = [
            ObjectPoints(_pairs(entry["positive"]), _pairs(entry.get("negative") or []))
            for entry in entries
        ]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise PisaError(f"{path}: points must be [{{'positive': [[x, y], ...]}}, ...]") from error
    bare = next((i for i, entry in enumerate(objects) if not entry.positive), None)
    if bare is not None:
        raise PisaError(f"{path}: object {bare} has no positive point")
    return objects


def scale_points(objects: Sequence[ObjectPoints], old: Size, new: Size) -> list[ObjectPoints]:
    """The same places in frames rescaled from ``old`` to ``new`` (pixel centres at integers)."""

    def scaled(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        factor_x, factor_y = new[1] / old[1], new[0] / old[0]
        return tuple(((x + 0.5) * factor_x - 0.5, (y + 0.5) * factor_y - 0.5) for x, y in points)

    return [ObjectPoints(scaled(o.positive), scaled(o.negative)) for o in objects]


def shift_points(objects: Sequence[ObjectPoints], dx_px: float, dy_px: float) -> list[ObjectPoints]:
    """The same places after ``dx_px`` columns and ``dy_px`` rows were added at left and top."""

    def shifted(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        return tuple((x + dx_px, y + dy_px) for x, y in points)

    return [ObjectPoints(shifted(o.positive), shifted(o.negative)) for o in objects]


def _pairs(points: Any) -> tuple[tuple[float, float], ...]:
    pairs = [(float(x), float(y)) for x, y in points]
    if any(not (abs(x) < 1e6 and abs(y) < 1e6) for x, y in pairs):
        raise ValueError("a coordinate is out of range")
    return tuple(pairs)
