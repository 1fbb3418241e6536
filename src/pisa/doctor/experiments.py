"""Requirements of each experiment, and those that are missing here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pisa.data.manifest import is_complete
from pisa.doctor.weights import Weights, weights_of
from pisa.errors import PisaError
from pisa.launch.compose import compose_needs
from pisa.launch.runs import Needs
from pisa.launch.settings import Node

SCALES = ("tiny", "paper")
_GPU_MODELS = ("pisa.models.diffusers_i2v.", "pisa.models.opensora.adapter.OpenSoraModel.from_")


@dataclass(frozen=True)
class DataSet:
    """A simulated data set; ``obstacle`` says why it cannot be simulated here."""

    name: str
    folder: Path
    num_clips: int
    present: bool
    obstacle: str | None = None


@dataclass(frozen=True)
class Experiment:
    """Requirements of one experiment at one scale; ``problem`` where it cannot be read."""

    name: str
    scale: str
    weights: tuple[Weights, ...] = ()
    data: tuple[DataSet, ...] = ()
    needs_gpu: bool = False
    problem: str | None = None

    def verdict(self, gpus: int, online: bool) -> tuple[bool, str]:
        """Whether it can run here, and what it does first or lacks."""
        absent = list(dict.fromkeys(w.name for w in self.weights if not w.present))
        make = [f"{d.name} ({d.num_clips} clips)" for d in self.data if not d.present]
        lacks = ["a GPU"] if self.needs_gpu and not gpus else []
        lacks += [f"weights ({', '.join(absent)})"] if absent and not online else []
        lacks += [d.obstacle for d in self.data if d.obstacle and not d.present][:1]
        if self.problem or lacks:
            return False, self.problem or "lacks " + "; ".join(lacks)
        first = [f"fetches {', '.join(absent)}"] if absent else []
        first += [f"simulates {', '.join(make)}"] if make else []
        return True, "first " + "; ".join(first) if first else "all is here"


def all_experiments(configs: Path, overrides: Sequence[str] = ()) -> Iterator[Experiment]:
    """Every YAML of configs/experiment at every scale."""
    for path in sorted((configs / "experiment").glob("*.yaml")):
        for scale in SCALES:
            yield read_experiment(configs, path.stem, scale, overrides)


def model_weights(configs: Path, overrides: Sequence[str] = ()) -> Iterator[Weights]:
    """Weights of every YAML of configs/model, under the model's name."""
    for path in sorted((configs / "model").glob("*.yaml")):
        needs = compose_needs(configs, "eval", [f"model={path.stem}", *overrides])
        for weights in weights_of(needs.model):
            yield replace(weights, name=f"{path.stem}: {weights.name}")


def read_experiment(
    configs: Path, name: str, scale: str, overrides: Sequence[str] = ()
) -> Experiment:
    """Compose an experiment and look up what it needs."""
    given = [f"experiment={name}", f"scale={scale}", *overrides]
    try:
        needs = compose_needs(configs, _entry_of(configs, name), given)
        data = tuple(_data(needs))
    except PisaError as error:
        return Experiment(name, scale, problem=f"cannot be read: {error}")
    if needs.trains_parts:
        return Experiment(name, scale, data=data)
    weights = (*weights_of(needs.model), *(w for node in needs.teachers for w in _inside(node)))
    on_gpu = str(needs.model["_target_"]).startswith(_GPU_MODELS)
    return Experiment(name, scale, weights, data, on_gpu)


def _entry_of(configs: Path, name: str) -> str:
    """The entry point of an experiment: those that have a source are for eval.py."""
    text = (configs / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return "eval" if "\nsource:" in text else "train"


def _inside(node: Node) -> Iterator[Weights]:
    """Weights named by settings and by all settings in them."""
    yield from weights_of(node)
    for inner in node.values():
        if isinstance(inner, Mapping):
            yield from _inside(inner)


def _data(needs: Needs) -> Iterator[DataSet]:
    sets = needs.sets
    for name in needs.set_names:
        if name in sets.names:
            folder, count = sets.root / sets.folder_name(name), sets.spec(name).num_clips
            here = needs.renderer is None or needs.renderer.exists()
            obstacle = None if here else "the renderer (make kubric-env)"
            yield DataSet(name, folder, count, is_complete(folder), obstacle)
        elif Path(name).is_dir():
            yield DataSet(name, Path(name), sets.num_clips(name), is_complete(Path(name)))
        else:
            yield DataSet(name, sets.root / name, 0, False, f"data set {name} in configs")
