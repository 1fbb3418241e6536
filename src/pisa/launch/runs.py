"""The runs that compose.py declares: frozen dataclasses of plain values and parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pisa.data.data_sets import DataSets
from pisa.data.simulated import SimulatedDataModule
from pisa.launch.generation_settings import GenerationSettings
from pisa.launch.settings import (
    EvaluationSettings,
    Node,
    StageSettings,
)
from pisa.launch.targets import Part
from pisa.models.base import VideoModel
from pisa.tasks.weights import load_weights

SPLITS = ("real", "sim_seen", "sim_unseen")  # of PisaBench
SET_KEYS = ("train", "sim_seen", "sim_unseen", "test")  # arguments of data modules that name a set
WEIGHTS = "weights.safetensors"


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
    trainer: Part
    callbacks: tuple[Part, ...]
    loggers: tuple[Part, ...]
    tracker: Part  # for callbacks that score or draw
    config: Mapping[str, Any]  # the whole configuration without secrets, for W&B
    summary: Mapping[str, Any]  # what Figure 5 needs to know of the run

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


@dataclass(frozen=True)
class TrainRun:
    """One command of train.py."""

    name: str
    seed: int
    folder: Path  # of the last stage; the scores go there
    stages: tuple[StageRun, ...]
    scoring: EvalRun | None  # None: evaluate=false
    config_text: str  # YAML, without secrets


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
    data: Part
    real: Part
    sets: DataSets
    generation: GenerationSettings | None
    scored_videos: Part | None  # how generated videos are scored
    source: Part | None  # what is scored; None at the end of a training
    config: Node  # all that decides the scores; hashed into their provenance
    config_text: str  # YAML, without secrets


@dataclass(frozen=True)
class SimulateRun:
    """One command of simulate.py."""

    sets: DataSets
    names: tuple[str, ...]
    verify: bool


def build_model(model: Part, weights: Path | None) -> VideoModel:
    """The base model, with the denoiser of ``weights`` where given."""
    built: VideoModel = model.build()
    if weights is not None:
        load_weights(built, weights)
    return built


def build_data(data: Part, sets: DataSets, **options: Any) -> SimulatedDataModule:
    """The data module over data sets that are simulated when missing; ``options`` are settings."""
    settings = {**data.settings, **options, "root": str(sets.root)}
    folders = {key: sets.folder_name(settings[key]) for key in SET_KEYS if key in settings}
    prepare = {"prepare": sets.prepare} if folders else {}
    return Part(data.name, {**settings, **folders}).build(**prepare)
