"""The numbers of one scored clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_METRICS = ("l2", "chamfer", "iou")
_STRICT_RATES = ("miss_rate", "spurious_rate", "split_rate")
_COUNTS = ("num_frames_gt", "num_frames_gen", "num_frames_compared")
_STRICT_COUNTS = ("num_frames_uncovered",)


def row_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of ``evaluate_pair`` that stand in a row of metrics.json.

    What only ``strict`` counts is absent under the other protocols.
    """
    row: dict[str, Any] = {name: float(result[name]) for name in _METRICS}
    row |= {name: float(result[name]) for name in _STRICT_RATES if name in result}
    row |= {name: int(result[name]) for name in _COUNTS}
    return row | {name: int(result[name]) for name in _STRICT_COUNTS if name in result}
