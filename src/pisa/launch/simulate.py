"""``simulate.py``: make, or check, data sets."""

from __future__ import annotations

from omegaconf import DictConfig

from pisa.launch.compose import compose_simulate


def simulate_main(cfg: DictConfig) -> None:
    """Make, or check, the data sets of ``cfg.datasets`` (all of the simulation's when empty)."""
    run = compose_simulate(cfg)
    for name in run.names:
        print(f"{name}: {run.sets.verify(name) if run.verify else run.sets.make(name)}")
