"""PisaBench metrics: pure functions over masks, in the protocols official, paper and strict."""

from pisa.metrics.pair import Protocol, evaluate_pair
from pisa.metrics.pisa_bench import PisaBenchMetric, TimeErrorMetric
from pisa.metrics.statistics import Interval, bootstrap_ci, paired_difference
from pisa.metrics.time_error import time_error

__all__ = [
    "Interval",
    "PisaBenchMetric",
    "Protocol",
    "TimeErrorMetric",
    "bootstrap_ci",
    "evaluate_pair",
    "paired_difference",
    "time_error",
]
