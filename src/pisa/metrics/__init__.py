"""PisaBench metrics: pure functions over masks, in the protocols official, paper and strict."""

from pisa.metrics.many import PairMasks, evaluate_many
from pisa.metrics.pair import PROTOCOLS, evaluate_pair
from pisa.metrics.statistics import Interval, bootstrap_ci, paired_difference
from pisa.metrics.time_error import time_error

__all__ = [
    "PROTOCOLS",
    "Interval",
    "PairMasks",
    "bootstrap_ci",
    "evaluate_many",
    "evaluate_pair",
    "paired_difference",
    "time_error",
]
