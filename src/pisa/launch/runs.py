"""The runs that compose.py declares, and the objects that they are built from.

A run is a frozen dataclass of plain values and ``Part``s.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from pisa.bench.references import Sampling
from pisa.data.data_sets import DataSets
from pisa.data.simulated import SimulatedDataModule
from pisa.io.files import hold, sha256_of, write_atomic
from pisa.io.weights import SHIPPED
from pisa.launch.settings import (
    AnnotateSettings,
    GenerationSettings,
    Node,
    Protocol,
    StageSettings,
)
from pisa.launch.targets import Part
from pisa.models.base import VideoModel
from pisa.perception.base import Tracker
from pisa.ranges import Count, Length, Seed
from pisa.tasks.weights import load_weights

Item = TypeVar("Item")
SPLITS = ("real", "sim_seen", "sim_unseen")  # of PisaBench
SIM = "sim"  # both simulated splits, when videos are scored
SET_KEYS = ("train", "sim_seen", "sim_unseen", "test")  # arguments of data modules that name a set
WEIGHTS = "weights.safetensors"

# Groups that decide the weights of a stage, with the stage itself and its data sets.
RESULT_KEYS = ("seed", "model", "data", "trainer")  # teachers are part of a stage's reward
IRRELEVANT = (
    "num_workers",
    "enable_progress_bar",
    "val_check_interval",
    "validate_every",
    "checkpoint_every",
    "root",
    "latent_cache_dir",
    "cache_file",
    "expect_size",
    "expect_fps_hz",
)


@dataclass(frozen=True)
class StageRun:
    """One stage of training: its settings, and the parts that it is built from."""

    stage: str  # psft, oro, ...
    row: str  # its name in the table of results
    folder: Path
    settings: StageSettings
    task: Part
    model: Part | None  # None for a stage that trains a part on its own
    reward: Part | None
    data: Part  # without the data set's folders, which ``sets`` knows
    sets: DataSets
    real: Part  # data module of the real clips
    trainer: Part
    callbacks: tuple[Part, ...]
    loggers: tuple[Part, ...]
    tracker: Part  # for callbacks that score or draw
    config: Mapping[str, Any]  # the whole configuration without secrets, for W&B
    summary: Mapping[str, Any]  # the settings that Figure 5 compares

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


@dataclass(frozen=True)
class TrainRun:
    """One command of train.py."""

    seed: int
    folder: Path  # of the last stage; the scores go there
    stages: tuple[StageRun, ...]
    scoring: EvalRun | None  # None: evaluate=false
    config_text: str  # YAML, without secrets


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Sampling):
    """configs/evaluation: how models are sampled and scored."""

    protocol: Protocol
    device: str
    splits: Annotated[list[str], Length(1)]
    num_clips: Count | None
    batch_size: Count
    seed: Seed
    show_published: bool
    diversity: bool
    prompt: Literal["mask", "points"]  # of the tracker on a video


@dataclass(frozen=True)
class EvalRun:
    """One scoring: a command of eval.py, or the last act of train.py."""

    name: str  # of the row in the table
    row: str  # the name unless name= says otherwise
    folder: Path
    seed: int
    evaluation: EvaluationSettings
    benchmark: str | None
    ckpt: Path | None
    data_dir: Path
    allow_missing: bool
    generate_only: bool
    model: Part
    tracker: Part
    reward: Part | None  # a column of the table
    data: Part
    real: Part
    sets: DataSets
    generation: GenerationSettings | None
    scored_videos: Part | None  # how generated videos are scored
    source: Part | None  # what is scored; None at the end of a training
    config: Node  # all that decides the scores; hashed into their provenance
    config_text: str  # YAML, without secrets
    own_clips: bool = False  # of a folder, which ``real`` reads; ``benchmark`` names their split


@dataclass(frozen=True)
class SimulateRun:
    """One command of simulate.py."""

    sets: DataSets
    names: tuple[str, ...]
    verify: bool


@dataclass(frozen=True)
class AnnotateRun:
    """One command of annotate.py."""

    path: Path
    settings: AnnotateSettings
    tracker: Part


@dataclass(frozen=True)
class Needs:
    """Whatever a command must find, fetch or make before it can run: for `pisa doctor`."""

    model: Node  # settings of the video model
    teachers: tuple[Node, ...]  # settings of the rewards, and of the tracker that scores
    trains_parts: bool  # no video model is built: a teacher is trained on its own
    sets: DataSets
    set_names: tuple[str, ...]  # names, or folders of clips
    renderer: Path | None  # the interpreter of an environment of its own


@dataclass(frozen=True)
class RankInfo:
    """This process among those that torchrun started."""

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def from_environment(cls) -> RankInfo:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ.get(n, d)) for n, d in zip(names, (0, 1, 0), strict=True)))

    def share(self, jobs: Sequence[Item]) -> list[Item]:
        """Every ``world_size``-th of the jobs, from the rank on."""
        return list(jobs[self.rank :: self.world_size])

    def device(self, chosen: torch.device) -> torch.device:
        """The device itself; of several GPUs, the one of this process."""
        if chosen.type != "cuda":
            return chosen
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def wait(self) -> None:
        """Until every process has come to this point."""
        if self.world_size == 1:
            return
        self._join()
        dist.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process runs the body, then all others: it makes what is missing for them."""
        if self.rank != 0:
            self.wait()
        yield
        if self.rank == 0:
            self.wait()

    def gather(self, own: Item) -> list[Item]:
        """The objects of all processes in the order of their ranks; every process gets the list."""
        if self.world_size == 1:
            return [own]
        self._join()
        everyone: list[Item | None] = [None] * self.world_size
        dist.all_gather_object(everyone, own)
        return everyone  # type: ignore[return-value]

    def _join(self) -> None:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=datetime.timedelta(days=14))


def denoiser_file(path: str) -> Path:
    """The weights in a run's folder, or the path as it is."""
    inside = Path(path) / WEIGHTS
    return inside if inside.is_file() else Path(path)


def build_model(model: Part, weights: Path | None) -> VideoModel:
    """The base model, with the denoiser of ``weights`` where given.

    Weights that are random (``model=opensora_tiny``) are the same whenever a run builds it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed())  # of prepare_torch
        built: VideoModel = model.build()
    if weights is not None:
        load_weights(built, weights)
    return built


def build_tracker(part: Part, device: torch.device) -> Tracker:
    """The tracker of ``perception=``, on the device."""
    tracker: Tracker = part.build()
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    return tracker


def build_data(data: Part, sets: DataSets, **options: Any) -> SimulatedDataModule:
    """The data module over data sets that are simulated when missing; ``options`` are settings."""
    settings = {**data.settings, **options, "root": str(sets.root)}
    folders = {key: sets.folder_name(settings[key]) for key in SET_KEYS if key in settings}
    prepare = {"prepare": sets.prepare} if folders else {}
    return Part(data.name, {**settings, **folders}).build(**prepare)


def prepare_torch(seed: int) -> None:
    """Seed every generator and quieten the libraries."""
    seed_everything(seed, workers=True, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)")
    torch.set_flush_denormal(True)  # denormal numbers are slow on CPU


@contextmanager
def claimed(folder: Path, config_text: str) -> Iterator[None]:
    """Create the output folder, keep other runs out of it, and record the configuration."""
    if not is_first_process():
        yield
        return
    with hold(folder):
        write_atomic(folder / "config.yaml", config_text.encode())
        yield


def is_first_process() -> bool:
    """Whether this is rank 0, also before there is a process group."""
    return getattr(rank_zero_only, "rank", 0) == 0


def stage_digest(tree: Node, stages: Node, sets: list[str]) -> str:
    """Digest of all that decides a stage's weights, with data sets and shipped weights.

    It names the stage's folder.
    """
    chosen = {key: tree[key] for key in RESULT_KEYS} | dict(stages)
    chosen = _without(chosen, IRRELEVANT)
    shipped = shipped_weights()
    used = sorted(shipped[name] for name in _shipped_names(chosen) if name in shipped)
    text = json.dumps([chosen, sets, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def shipped_weights() -> dict[str, str]:
    """SHA-256 of each weights file in the package, by name."""
    files = sorted(SHIPPED.glob("*.safetensors"))
    return {file.name: sha256_of(file) for file in files}


def _shipped_names(settings: Any) -> Iterator[str]:
    """Names of weights files in settings: values that are one, and those that a class declares."""
    if isinstance(settings, Mapping):
        if "_target_" in settings:
            found = Part("", settings).target
            declared = getattr(getattr(found, "__self__", found), "shipped_weights", None)
            yield from [declared] if declared else []
        for value in settings.values():
            yield from _shipped_names(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _shipped_names(value)
    elif isinstance(settings, str):
        yield settings


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        off = ("lora",) if value.get("lora", ()) is None else ()
        return {k: _without(v, keys) for k, v in value.items() if k not in (*keys, *off)}
    return value
