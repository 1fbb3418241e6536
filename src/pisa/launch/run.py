"""The verbs: simulate, train, evaluate."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from pisa.data.clip_info import check_name
from pisa.io.files import write_atomic
from pisa.io.lock import hold
from pisa.launch.benchmark import with_own_clips
from pisa.launch.datasets import DataSets
from pisa.launch.evaluation import Evaluation
from pisa.launch.generation import generate_and_score
from pisa.launch.public import public_yaml
from pisa.launch.stages import WEIGHTS, build_model, run_stage
from pisa.launch.targets import check_targets, instantiate

# What decides the result of a stage; anything else may change between two runs of one experiment.
RESULT_KEYS = ("seed", "prior", "simulation", "model", "perception", "data", "trainer")
IRRELEVANT = (
    "num_workers",
    "enable_progress_bar",
    "val_check_interval",
    "root",
    "latent_cache_dir",
    "expect_size",
    "expect_fps_hz",
)


# What a training builds besides its stages; a wrong argument is told before the first stage.
BUILT_IN_TRAINING = ("model", "data", "callbacks", "trainer", "logger")
# What a scale says of training, which scoring does not use.
OF_TRAINING = ("trainer", "psft", "oro", "callbacks", "validate_every", "checkpoint_every")


def simulate_main(cfg: DictConfig) -> None:
    """Make, or check, the data sets of ``cfg.datasets`` (all of the simulation's when empty)."""
    sets = DataSets(cfg)
    named = [cfg.dataset] if cfg.dataset else cfg.datasets
    for name in named or cfg.simulation.datasets:
        print(f"{name}: {sets.verify(name) if cfg.verify else sets.make(name)}")


def train_main(cfg: DictConfig) -> None:
    """Run the stages, then score base, each stage, and the two reference rows."""
    _prepare_torch(cfg)
    rewarded = any("reward" in cfg[stage] for stage in cfg.stages)
    for group in ("reward",) * rewarded + (*BUILT_IN_TRAINING, *cfg.stages):
        check_targets(cfg, group)
    folder = stage_folder(cfg, cfg.stages[-1], cfg.name)
    with _claimed(folder, cfg):
        sources: dict[str, Path | None] = {"base": None}
        for stage in cfg.stages:
            row = cfg.name if stage == cfg.stages[-1] else stage
            sources[row] = _stage_weights(cfg, stage, sources)
        if cfg.evaluate and _is_first_process():
            Evaluation(cfg, folder).run(sources)


def evaluate_main(cfg: DictConfig) -> None:
    """Score what the configuration group ``source`` names: a model, videos, or mask pairs."""
    cfg = with_own_clips(_without_training(cfg))
    _prepare_torch(cfg)
    folder = Path(cfg.output_dir)
    with _claimed(folder, cfg):
        instantiate(cfg.source)(cfg, folder)


def _without_training(cfg: DictConfig) -> DictConfig:
    """So that what is recorded and hashed with the scores is what decides them."""
    return OmegaConf.create({key: cfg._get_node(key) for key in cfg if key not in OF_TRAINING})


def score_models(cfg: DictConfig, folder: Path, *, row: str = "checkpoint") -> None:
    """Score a checkpoint (``ckpt=...``) beside the base model and the two reference rows.

    A model with generation settings (``cfg.generation``) and ``benchmark=SPLIT`` has its videos
    generated, kept, and scored as videos.
    """
    if cfg.benchmark is not None and cfg.get("generation") is not None:
        generate_and_score(cfg, folder)
        return
    sources: dict[str, Path | None] = {"base": None}
    if cfg.ckpt is not None:
        sources[cfg.name] = Path(cfg.ckpt)
        build_model(cfg, sources[cfg.name])  # a wrong checkpoint fails before any work
    Evaluation(cfg, folder).run(sources)


def stage_folder(cfg: DictConfig, stage: str, name: str) -> Path:
    """``OUTPUT_DIR/NAME-DIGEST``; the digest covers all that decides the stage's weights.

    That includes the weights shipped with the package, of those parts that the settings name.
    """
    upto = cfg.stages[: list(cfg.stages).index(stage) + 1]
    chosen = {key: cfg[key] for key in (*RESULT_KEYS, *upto)}
    if any("reward" in cfg[entry] for entry in upto):
        chosen["reward"] = cfg.reward  # the stage only points to it
    plain = OmegaConf.to_container(OmegaConf.create(chosen), resolve=False)
    text = json.dumps(_without(plain, IRRELEVANT), sort_keys=True, default=str)
    shipped = "".join(sha256 for stem, sha256 in shipped_weights().items() if stem in text)
    digest = hashlib.sha256((text + shipped).encode()).hexdigest()[:8]
    return Path(cfg.output_dir) / f"{check_name(name)}-{digest}"


@cache
def shipped_weights() -> dict[str, str]:
    """SHA-256 of each weights file in the package, by name without suffix."""
    folder = Path(str(resources.files("pisa") / "weights"))
    files = sorted(folder.glob("*.safetensors"))
    return {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _stage_weights(cfg: DictConfig, stage: str, sources: dict[str, Path | None]) -> Path:
    """Weights of a stage: given, left by an earlier run, or trained now."""
    given = cfg[stage].get("checkpoint")
    if given is not None:
        rank_zero_only(print)(f"{stage}: not trained, {stage}.checkpoint={given} is used")
        return Path(given)
    name = cfg.name if stage == cfg.stages[-1] else stage
    folder = stage_folder(cfg, stage, name)
    given = cfg[stage].get("start")
    start = list(sources.values())[-1] if given is None else Path(given)
    unfinished = _is_first_process() and not (folder / WEIGHTS).is_file()
    with hold(folder) if unfinished else nullcontext():  # finished weights are for everybody
        return run_stage(_with_run_dir(cfg, folder), stage, folder, start)


def _with_run_dir(cfg: DictConfig, folder: Path) -> DictConfig:
    copy = cfg.copy()
    with open_dict(copy):
        copy.run_dir = str(folder)
    return copy


@contextmanager
def _claimed(folder: Path, cfg: DictConfig) -> Iterator[None]:
    """Create the output folder, keep other runs out of it, and record the configuration."""
    if not _is_first_process():
        yield
        return
    with hold(folder):
        write_atomic(folder / "config.yaml", public_yaml(cfg).encode())
        yield


def _is_first_process() -> bool:
    """Whether this is rank 0, also before any process group is there."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _without(value, keys: tuple[str, ...]):
    if isinstance(value, dict):
        off = ("lora",) if value.get("lora", ()) is None else ()
        return {k: _without(v, keys) for k, v in value.items() if k not in (*keys, *off)}
    return value


def _prepare_torch(cfg: DictConfig) -> None:
    seed_everything(cfg.seed, workers=True, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")
    torch.set_flush_denormal(True)  # denormal numbers are slow on CPU
