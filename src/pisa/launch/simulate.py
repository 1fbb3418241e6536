"""``simulate.py``: make, or check, data sets; and the data sets that a configuration declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

from pisa.data.data_sets import DataSets
from pisa.launch.runs import SimulateRun
from pisa.launch.settings import (
    DataSetSettings,
    Node,
    ProductionSettings,
    SimulationSettings,
    read,
)
from pisa.launch.targets import Part
from pisa.simulation.produce import DataSetSpec, Shard, Simulator


def simulate(run: SimulateRun) -> None:
    """Make, or check, the data sets of ``run.names``."""
    for name in run.names:
        print(f"{name}: {run.sets.verify(name) if run.verify else run.sets.make(name)}")


def declare_data_sets(tree: Node) -> DataSets:
    """The data sets of a resolved configuration; nothing is simulated yet.

    Raises ``PisaError`` for a wrong setting.
    """
    simulation = read(SimulationSettings, tree["simulation"], "simulation")
    names = [key for key in ("prior", "test_prior") if key in tree]
    priors = {key: Part.checked(key, tree[key]) for key in names}
    backend = Part.checked("simulation.backend", simulation.backend)
    number = tree.get("num_clips")
    specs: dict[str, Callable[[], DataSetSpec]] = {}
    for name, node in simulation.datasets.items():
        place = f"simulation.datasets.{name}"
        changed = node if number is None else {**node, "num_clips": number}
        chosen = read(DataSetSettings, changed, place)
        renderer = Part.checked(f"{place}.backend", {**backend.settings, **chosen.backend})
        specs[name] = partial(_spec, _prior(chosen, priors, place), renderer, chosen)
    production = read(ProductionSettings, tree.get("production") or {}, "production")
    return DataSets(
        Path(tree["data_dir"]),
        specs,
        simulation.num_workers,
        Shard.parse(tree.get("shard")),
        production.timeout_s,
        production.attempts,
    )


def _prior(chosen: DataSetSettings, priors: Mapping[str, Part], place: str) -> Part:
    """The prior that a data set's scenes are drawn from."""
    own = chosen.prior or {}
    if "_target_" in own:  # a scenario of its own, see configs/scenario
        return Part.checked(f"{place}.prior", own)
    shared = priors["test_prior" if chosen.test and "test_prior" in priors else "prior"]
    settings = {**shared.settings, "motion": chosen.motion, **own}
    return Part.checked(f"{place}.prior" if own else shared.name, settings)


def _spec(prior: Part, renderer: Part, chosen: DataSetSettings) -> DataSetSpec:
    simulator = _simulator(json.dumps(dict(renderer.settings)), json.dumps(dict(prior.settings)))
    return DataSetSpec(simulator, chosen.split, chosen.num_clips, chosen.first_seed)


@cache
def _simulator(backend: str, prior: str) -> Simulator:
    """The simulator of JSON settings: a frozen dataclass, and several data sets share one."""
    built = Part("prior", json.loads(prior)).build()
    simulator: Simulator = Part("simulation.backend", json.loads(backend)).build()(prior=built)
    return simulator
