"""From a Hydra configuration to runs; the only place in the package that knows Hydra."""

from pisa.launch.annotate import annotate_main
from pisa.launch.entry import entry_point
from pisa.launch.run import evaluate_main, simulate_main, train_main

__all__ = ["annotate_main", "entry_point", "evaluate_main", "simulate_main", "train_main"]
