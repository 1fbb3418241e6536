"""Settings that are plain values: frozen dataclasses with the ranges beside the fields.

``read`` turns a part of the resolved configuration into one of them and reports the first setting
that is unknown, missing or out of range.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from omegaconf import OmegaConf

from pisa.errors import PisaError
from pisa.ranges import (
    Count,
    Fraction,
    FrameCount,
    Length,
    NonNegative,
    PixelCount,
    PixelSize,
    Positive,
    Range,
    Seed,
    WholeNumber,
    problem,
)

Settings = TypeVar("Settings")
Node = Mapping[str, Any]  # a part of the configuration that names what to build
Protocol = Literal["official", "paper", "strict"]
LAWS_OF_PHYSICS = "A video that conforms to the laws of physics."


@dataclass(frozen=True)
class DataSetSettings:
    """One entry of ``simulation.datasets``."""

    split: Literal["train", "test"]  # which objects, materials and backgrounds
    num_clips: Count
    first_seed: WholeNumber  # clip i has seed first_seed + i
    motion: Literal["fall", "drift"] = "fall"
    test: bool = False  # drawn from test_prior, which overrides of prior.* leave alone
    prior: Node | None = None  # with _target_: instead of the scale's; else changes of it
    backend: Node = field(default_factory=dict)  # changes of simulation.backend


@dataclass(frozen=True)
class SimulationSettings:
    backend: Node
    datasets: Mapping[str, Any]
    num_workers: Count = 1


@dataclass(frozen=True)
class ProductionSettings:
    timeout_s: Positive = 3600.0
    attempts: Count = 3


@dataclass(frozen=True)
class LoraSettings:
    rank: Count
    alpha: Count | None = None
    targets: list[str] | None = None


@dataclass(frozen=True)
class StageSettings:
    """One training stage: the configuration's node of the stage's name."""

    max_steps: Count
    batch_size: Count  # clips of one optimiser step, on all processes together
    task: Node
    train: str  # data set
    data: Node = field(default_factory=dict)  # changes of the data group
    reward: Node | None = None
    start: str | None = None
    checkpoint: str | None = None
    lora: LoraSettings | None = None
    validate_every: Count | None = None  # optimiser steps; None: the setting of the whole run
    checkpoint_every: Count | None = None
    exports: str | None = None  # the part of the task that the stage trains on its own


@dataclass(frozen=True)
class TrainSettings:
    """Top level of configs/train.yaml."""

    name: Annotated[str, Length(1)]
    stages: Annotated[list[str], Length(1)]
    seed: Seed
    protocol: Protocol
    data_dir: str
    output_dir: str
    evaluate: bool
    allow_missing: bool
    validate_every: Count  # optimiser steps
    checkpoint_every: Count
    budget: Count


@dataclass(frozen=True)
class TrainerSettings:
    """Ranges of ``lightning.pytorch.Trainer``'s arguments; those not listed are Lightning's."""

    devices: Count | list[WholeNumber] | Literal["auto"] = "auto"
    num_nodes: Count = 1
    precision: Literal[
        "auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true"
    ] = "32-true"  # auto: bf16-mixed on a CPU with bfloat16 units
    accumulate_grad_batches: Count = 1
    gradient_clip_val: NonNegative | None = None
    log_every_n_steps: WholeNumber = 5
    num_sanity_val_steps: Annotated[int, Range(-1)] = 0
    check_val_every_n_epoch: Count | None = None
    max_epochs: Annotated[int, Range(-1)] | None = None
    limit_train_batches: Count | Fraction | None = None
    limit_val_batches: WholeNumber | Fraction | None = None
    overfit_batches: WholeNumber | Fraction = 0


@dataclass(frozen=True)
class GenerationSettings:
    """One row of Table 4; None where the paper has no such information (closed models).

    ``num_frames`` are generated and the first ``keep_frames`` kept (None: all). ``scheduler`` is
    for the record: the model's weights bring theirs.
    """

    name: str  # of the model's row in the table
    height: PixelCount
    width: PixelCount
    num_frames: FrameCount
    fps_hz: Positive
    guidance: NonNegative | None = None
    num_steps: Count | None = None
    scheduler: str | None = None
    keep_frames: FrameCount | None = None
    prompt_suffix: str = LAWS_OF_PHYSICS
    negative_prompt: str | None = None
    seeds: tuple[Seed, ...] = (0,)
    batch_size: Count = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise PisaError(f"generation.seeds must be different whole numbers, not {self.seeds}")

    def prompt(self, caption: str) -> str:
        """The caption and the sentence after it (paper Appendix H.2)."""
        return f"{caption} {self.prompt_suffix}".strip()

    def sha256(self, model: Mapping[str, Any]) -> str:
        """Digest of all that decides a video except clip and seed; ``model``: its configuration."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("seeds", "batch_size")}
        text = json.dumps({"settings": kept, "model": dict(model)}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EvalSettings:
    """Top level of configs/eval.yaml."""

    name: Annotated[str, Length(1)]
    seed: Seed
    protocol: Protocol
    benchmark: str | None
    split: Literal["real", "sim_seen", "sim_unseen"]  # of the clips in a folder benchmark
    generate_only: bool
    allow_missing: bool
    overwrite: bool
    ckpt: str | None
    data_dir: str
    output_dir: str | None


@dataclass(frozen=True)
class AnnotateSettings:
    """Top level of configs/annotate.yaml."""

    path: str | None
    serve: bool | None
    port: Annotated[int, Range(0, 65535)]
    show: bool
    clip_size: PixelCount | None
    size: PixelSize | None
    prompt: str  # "points", or the name of a file of masks
    overwrite: bool
    device: str


def by_scale(values: Node, *, _root_: Node) -> Any:
    """The value for the chosen scale: ``${by_scale:{paper:all,tiny:moving}}`` in a YAML.

    Raises ``PisaError`` where there is none.
    """
    scale = str(_root_.get("scale"))
    if scale not in values:
        raise PisaError(
            f"no value for scale {scale!r} among {', '.join(values)}; set `scale` in the scale's "
            "YAML to one of them, or give the setting its value"
        )
    return values[scale]


def steps_in_budget(stage: str, *, _root_: Node) -> int:
    """The optimiser steps of a stage that ``budget`` pays for: ``${steps_in_budget:oro}``."""
    from pisa.launch.budget import steps_of  # imports torch

    return steps_of(_root_[stage], stage, _root_["budget"])


OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
OmegaConf.register_new_resolver("steps_in_budget", steps_in_budget, replace=True)


def read(kind: type[Settings], node: Any, name: str) -> Settings:
    """A dataclass of the settings in ``node``, whose place in the configuration is ``name``.

    Raises ``PisaError`` for a setting that is unknown, missing or out of range.
    """
    if not isinstance(node, Mapping):
        raise PisaError(f"{name} must be a mapping of settings, not {node!r}")
    hints = get_type_hints(kind, include_extras=True)
    unknown = [str(key) for key in node if key not in hints]
    if unknown:
        where = name or "the configuration"
        raise PisaError(f"no setting {unknown[0]!r} in {where}; valid: {', '.join(sorted(hints))}")
    values = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        place = f"{name}.{entry.name}" if name else entry.name
        if entry.name in node:
            values[entry.name] = _value(hints[entry.name], node[entry.name], place)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise PisaError(f"{place} is needed")
    return kind(**values)


def read_top(kind: type[Settings], tree: Node) -> Settings:
    """The same of the top level, where other keys are groups."""
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    return read(kind, {key: tree[key] for key in tree if key in known}, "")


def _value(kind: Any, value: Any, place: str) -> Any:
    inner = [part for part in (kind, *get_args(kind)) if is_dataclass(part)]
    if inner and isinstance(value, Mapping):
        return read(inner[0], value, place)  # type: ignore[arg-type]
    wrong = problem(value, kind)
    if wrong is not None:
        raise PisaError(f"{place} {wrong}")
    return value
