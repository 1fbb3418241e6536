"""Requirements of each experiment, and those that are missing here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pisa.data.manifest import is_complete
from pisa.doctor.weights import Weights, weights_of
from pisa.errors import PisaError, reason
from pisa.launch.compose import resolved
from pisa.launch.simulate import declare_data_sets

SCALES = ("tiny", "paper")
_TEST_SETS = ("sim_seen", "sim_unseen", "test")
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
        cfg = _compose(configs, "eval", [f"model={path.stem}", *overrides])
        for weights in weights_of(cfg.model):
            yield replace(weights, name=f"{path.stem}: {weights.name}")


def read_experiment(
    configs: Path, name: str, scale: str, overrides: Sequence[str] = ()
) -> Experiment:
    """Compose an experiment and look up what it needs."""
    given = [f"experiment={name}", f"scale={scale}", *overrides]
    try:
        cfg = _compose(configs, _entry_of(configs, name), given)
        data = tuple(_data(cfg))
        return Experiment(name, scale, tuple(_weights(cfg)), data, _needs_gpu(cfg))
    except (HydraException, OmegaConfBaseException, PisaError) as error:
        return Experiment(name, scale, problem=f"cannot be read: {reason(error)}")


def _entry_of(configs: Path, name: str) -> str:
    """The entry point of an experiment: those that have a source are for eval.py."""
    text = (configs / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return "eval" if "\nsource:" in text else "train"


def _compose(configs: Path, entry: str, overrides: Sequence[str]) -> DictConfig:
    with hydra.initialize_config_dir(str(configs.absolute()), version_base="1.3"):
        return hydra.compose(entry, [*overrides, *(["run_dir=x"] if entry == "train" else [])])


def _stages(cfg: DictConfig) -> list[DictConfig]:
    return [cfg[stage] for stage in cfg.get("stages", ())]


def _weights(cfg: DictConfig) -> Iterator[Weights]:
    """Weights of the video model, the rewards, and the tracker that scores."""
    if _trains_parts(cfg):
        return
    yield from weights_of(cfg.model)
    for stage in _stages(cfg):
        if "reward" in stage:
            yield from _inside(stage.reward)
    yield from weights_of(cfg.perception.tracker)


def _inside(node: DictConfig) -> Iterator[Weights]:
    """Weights named by a node and by all nodes in it."""
    yield from weights_of(node)
    for key in node:
        if isinstance(child := node.get(key), DictConfig):
            yield from _inside(child)


def _data(cfg: DictConfig) -> Iterator[DataSet]:
    sets, known = declare_data_sets(resolved(cfg)), cfg.simulation.datasets
    names = [stage.train for stage in _stages(cfg)]
    for module in (cfg.data, *(stage.get("data") or {} for stage in _stages(cfg))):
        names += [module[key] for key in _TEST_SETS if key in module]
    if not _stages(cfg) and cfg.source.get("data_set"):
        names = [cfg.source.data_set]
    for name in dict.fromkeys(names):
        if name not in known and Path(name).is_dir():
            yield DataSet(name, Path(name), sets.num_clips(name), is_complete(Path(name)))
            continue
        if name not in known:
            yield DataSet(name, sets.root / name, 0, False, f"data set {name} in configs")
            continue
        folder = sets.root / sets.folder_name(name)
        renderer = Path(cfg.simulation.backend.get("python") or "/")
        obstacle = None if renderer.exists() else "the renderer (make kubric-env)"
        count = sets.spec(name).num_clips
        yield DataSet(name, folder, count, is_complete(folder), obstacle)


def _needs_gpu(cfg: DictConfig) -> bool:
    return not _trains_parts(cfg) and str(cfg.model._target_).startswith(_GPU_MODELS)


def _trains_parts(cfg: DictConfig) -> bool:
    """Whether no video model is built: a teacher is trained on its own."""
    stages = _stages(cfg)
    return bool(stages) and all("exports" in stage for stage in stages)
