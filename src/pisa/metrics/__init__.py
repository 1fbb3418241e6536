"""PisaBench metrics: pure functions over masks, in the protocols official, paper and strict.

The torchmetrics classes are imported when they are first asked for: torchmetrics takes longer to
import than all the rest, and the processes of ``evaluate_many`` don't need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pisa.metrics.many import PairMasks, evaluate_many
from pisa.metrics.pair import Protocol, evaluate_pair
from pisa.metrics.statistics import Interval, bootstrap_ci, paired_difference
from pisa.metrics.time_error import time_error

if TYPE_CHECKING:
    from pisa.metrics.pisa_bench import PisaBenchMetric, TimeErrorMetric

__all__ = [
    "Interval",
    "PairMasks",
    "PisaBenchMetric",
    "Protocol",
    "TimeErrorMetric",
    "bootstrap_ci",
    "evaluate_many",
    "evaluate_pair",
    "paired_difference",
    "time_error",
]


def __getattr__(name: str) -> Any:
    if name not in ("PisaBenchMetric", "TimeErrorMetric"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pisa.metrics import pisa_bench

    return getattr(pisa_bench, name)
