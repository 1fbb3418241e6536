"""From the composed configuration to the parts of a run: only this code reads a ``DictConfig``.

Everything is resolved, checked and declared here, once and before any work. The results are frozen
dataclasses of plain values and ``Part``s, which build their object when it is needed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pisa.data.clip_info import check_name
from pisa.data.data_sets import DataSets
from pisa.data.manifest import list_clips
from pisa.errors import PisaError, reason
from pisa.io.provenance import config_sha256, settings_of
from pisa.io.secrets import redacted
from pisa.launch.entry import CONFIGS, without_a_name
from pisa.launch.runs import (
    SET_KEYS,
    SIM,
    SPLITS,
    AnnotateRun,
    EvalRun,
    EvaluationSettings,
    Needs,
    SimulateRun,
    StageRun,
    TrainRun,
    denoiser_file,
    stage_digest,
)
from pisa.launch.settings import (
    AnnotateSettings,
    EvalSettings,
    GenerationSettings,
    Node,
    StageSettings,
    TrainSettings,
    read,
    read_top,
)
from pisa.launch.simulate import declare_data_sets
from pisa.launch.targets import Part, plain

# Training-only keys, dropped for scoring; and keys that change no score.
TRAINING_KEYS = (
    "trainer", "psft", "oro", "callbacks", "sampling", "validate_every", "checkpoint_every",
    "budget",
)  # fmt: skip
NOT_SCORES = ("output_dir", "overwrite", "allow_missing", "generate_only")
RESULTS = ("metrics.json", "ood.json", "drop_time.json", "lift3d.json")
RUN_DIR = "RUN_DIR"  # stands for a stage's folder until its digest is known
_ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)")


def composed(config_name: str, overrides: Sequence[str], configs: Path = CONFIGS) -> DictConfig:
    """The configuration of a command line. Raises ``PisaError`` where it cannot be composed."""
    try:
        with hydra.initialize_config_dir(str(configs.absolute()), version_base="1.3"):
            return hydra.compose(config_name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise PisaError(reason(error)) from error
    except ValueError as error:
        message = without_a_name(error, overrides)
        if message is None:
            raise
        raise PisaError(message) from error


def compose_train(cfg: DictConfig) -> TrainRun:
    """Check the whole configuration of train.py and declare its stages.

    Raises ``PisaError`` for the first setting that is unknown, out of range or contradicts another.
    """
    public = public_config(_with_run_dir(cfg), resolve=True)
    return declare_train(resolved(cfg), public_yaml(cfg), public)


def declare_train(tree: Node, config_text: str = "", public: Node | None = None) -> TrainRun:
    """``compose_train`` for a resolved configuration; ``public`` is the part that may be logged."""
    top = read_top(TrainSettings, tree)
    unknown = [stage for stage in top.stages if not isinstance(tree.get(stage), Mapping)]
    if unknown:
        raise PisaError(f"stages: the configuration has no stage {unknown[0]!r}")
    for group in ("real", "reward", "sampling"):
        Part.checked(group, tree[group])
    for name, node in tree.items():  # a stage that does not run has no wrong settings either
        if isinstance(node, Mapping) and "max_steps" in node and node.get("task"):
            settings = read(StageSettings, node, name)
            Part.checked(f"{name}.task", settings.task)
            Part.checked(f"{name}.reward", settings.reward or {})
            if settings.checkpoint is not None and name not in top.stages:
                raise PisaError(
                    f"{name}.checkpoint names weights of a stage that is not in stages="
                    f"{list(top.stages)}: add {name} to stages (it is then not trained)"
                )
    sets = declare_data_sets(tree)
    stages = tuple(_stage_run(tree, stage, sets, public or {}) for stage in top.stages)
    folder = stages[-1].folder
    scoring = _scoring(tree, folder, sets, config_text)
    return TrainRun(
        seed=top.seed,
        folder=folder,
        stages=stages,
        scoring=scoring if top.evaluate else None,
        config_text=config_text,
    )


def compose_eval(cfg: DictConfig) -> EvalRun:
    """Check the whole configuration of eval.py and declare what is scored.

    Raises ``PisaError`` for the first wrong setting, and where the output folder holds the scores
    of another evaluation.
    """
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in TRAINING_KEYS])
    return declare_eval(resolved(kept), public_yaml(kept))


def declare_eval(tree: Node, config_text: str = "") -> EvalRun:
    """``compose_eval`` for a resolved configuration."""
    top = read_top(EvalSettings, tree)
    named = top.benchmark in (None, SIM, *SPLITS)
    own = not named and Path(str(top.benchmark)).is_dir()
    if own:
        # Absolute, so that data_dir does not count; the clips take the place of the real ones.
        folder = str(Path(str(top.benchmark)).resolve())
        list_clips(Path(folder))
        tree = {**tree, "benchmark": top.split, "real": {**tree["real"], "name": folder}}
    elif named and top.split != "real":
        raise PisaError(f"split={top.split} names the split of a folder: add benchmark=FOLDER")
    run = _scoring(tree, Path(top.output_dir or ""), declare_data_sets(tree), config_text)
    run = replace(run, own_clips=own)
    if top.output_dir is None:
        folder_name = f"{check_name(run.name)}-{config_sha256(run.config)[:8]}"
        run = replace(run, folder=Path("runs") / "eval" / folder_name)
    elif not top.overwrite:
        _refuse_other_scores(run)
    return run


def _scoring(tree: Node, folder: Path, sets: DataSets, config_text: str) -> EvalRun:
    evaluation = dict(tree["evaluation"])
    reward = evaluation.pop("reward")
    settings = read(EvaluationSettings, evaluation, "evaluation")
    ckpt, generation = tree.get("ckpt"), tree.get("generation")
    return EvalRun(
        name=tree["name"],
        row=tree["source"]["row"] if tree.get("source") else tree["name"],
        folder=folder,
        seed=tree["seed"],
        evaluation=settings,
        benchmark=tree.get("benchmark"),
        ckpt=None if ckpt is None else denoiser_file(ckpt),
        data_dir=Path(tree["data_dir"]),
        allow_missing=tree["allow_missing"],
        generate_only=tree.get("generate_only", False),
        model=Part.checked("model", tree["model"]),
        tracker=_tracker(tree),
        reward=None if reward is None else Part.checked("evaluation.reward", reward),
        data=Part.checked("data", tree["data"]),
        real=Part.checked("real", tree["real"]),
        source=_source(tree, "source"),
        scored_videos=_source(tree, "scored_videos"),
        sets=sets,
        generation=None
        if generation is None
        else read(GenerationSettings, generation, "generation"),
        config={key: value for key, value in tree.items() if key not in NOT_SCORES},
        config_text=config_text,
    )


def _source(tree: Node, group: str) -> Part | None:
    """The source to score, None at the end of a training; ``row`` is the default of ``name``."""
    if tree.get(group) is None:
        return None
    return Part.checked(group, {k: v for k, v in tree[group].items() if k != "row"})


def _tracker(tree: Node) -> Part:
    return Part.checked("perception.tracker", tree["perception"]["tracker"])


def _refuse_other_scores(run: EvalRun) -> None:
    digest = config_sha256(run.config)
    found = [_recorded_sha256(run.folder / name) for name in RESULTS]
    if any(other not in (None, digest) for other in found):
        raise PisaError(
            f"{run.folder} holds the scores of another evaluation; choose another output_dir, "
            "leave it out (a folder named by the settings is used), or say overwrite=true"
        )


def _recorded_sha256(path: Path) -> str | None:
    """Hash of the settings that a file of results came from; None where no results can be read."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["provenance"]["config_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compose_simulate(cfg: DictConfig) -> SimulateRun:
    """Check the configuration of simulate.py and declare its data sets."""
    tree = resolved(cfg)
    sets = declare_data_sets(tree)
    names = [tree["dataset"]] if tree["dataset"] else list(tree["datasets"])
    for name in names:
        sets.spec(name)
    return SimulateRun(sets, tuple(names or sets.names), bool(tree["verify"]))


def compose_annotate(cfg: DictConfig) -> AnnotateRun:
    """Check the configuration of annotate.py.

    Raises ``PisaError`` for the first wrong setting, and without ``path``.
    """
    tree = resolved(cfg)
    settings = read_top(AnnotateSettings, tree)
    if settings.path is None:
        raise PisaError("path=DIR is needed: a folder of recordings, or of clips with points")
    return AnnotateRun(Path(settings.path), settings, _tracker(tree))


def compose_needs(configs: Path, entry: str, overrides: Sequence[str]) -> Needs:
    """Compose a command line (``entry`` is train or eval) and list what it needs.

    Raises ``PisaError`` where it cannot be composed.
    """
    run_dir = [f"run_dir={RUN_DIR}"] if entry == "train" else []
    try:
        tree = resolved(composed(entry, [*overrides, *run_dir], configs))
    except OmegaConfBaseException as error:
        raise PisaError(reason(error)) from error
    stages = [tree[stage] for stage in tree.get("stages", ())]
    modules = (tree["data"], *(stage.get("data") or {} for stage in stages))
    names = [stage["train"] for stage in stages]
    names += [module[key] for module in modules for key in SET_KEYS[1:] if key in module]
    if not stages and tree["source"].get("data_set"):
        names = [tree["source"]["data_set"]]
    rewards = [stage["reward"] for stage in stages if stage.get("reward")]
    renderer = tree["simulation"]["backend"].get("python")
    return Needs(
        model=tree["model"],
        teachers=(*rewards, tree["perception"]["tracker"]),
        trains_parts=bool(stages) and all("exports" in stage for stage in stages),
        sets=declare_data_sets(tree),
        set_names=tuple(dict.fromkeys(names)),
        renderer=None if renderer is None else Path(renderer),
    )


def _stage_run(tree: Node, stage: str, sets: DataSets, public: Node) -> StageRun:
    stages = tree["stages"]
    row = tree["name"] if stage == stages[-1] else stage
    settings = read(StageSettings, tree[stage], stage)
    task = Part.checked(f"{stage}.task", settings.task)
    model = None if settings.exports else Part.checked("model", tree["model"])
    reward = Part.checked(f"{stage}.reward", settings.reward) if settings.reward else None
    data = Part.checked("data", {**tree["data"], **settings.data, "train": settings.train})
    trainer, tracker = Part.checked("trainer", _trainer(tree, settings)), _tracker(tree)
    if settings.checkpoint_every is not None and (tree.get("callbacks") or {}).get("checkpoint"):
        own = {**tree["callbacks"]["checkpoint"], "every_n_steps": settings.checkpoint_every}
        tree = {**tree, "callbacks": {**tree["callbacks"], "checkpoint": own}}
    _check_num_clips(stage, settings, sets)
    _check_devices(tree["trainer"], {**tree["data"], **settings.data}, sets)
    upto = {name: tree[name] for name in stages[: stages.index(stage) + 1]}
    used = [sets.folder_name(name) for node in upto.values() for name in _set_names(tree, node)]
    folder = Path(tree["output_dir"]) / f"{check_name(row)}-{stage_digest(tree, upto, used)}"
    return StageRun(
        stage=stage,
        row=row,
        folder=folder,
        settings=settings,
        task=task,
        model=model,
        reward=reward,
        data=data,
        sets=sets,
        real=Part.checked("real", tree["real"]),
        trainer=trainer,
        callbacks=_entries(tree, "callbacks", folder),
        loggers=_entries(tree, "logger", folder),
        tracker=tracker,
        config=public,
        summary=settings_of(tree, stage),
    )


def _replaced(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, folder) for inner in value]
    return value.replace(RUN_DIR, folder) if isinstance(value, str) else value


def _set_names(tree: Node, stage: Node) -> list[str]:
    """Data sets that a stage is trained and validated on."""
    data = {**tree["data"], **(stage.get("data") or {}), "train": stage["train"]}
    return [data[key] for key in SET_KEYS if key in data]


def _check_num_clips(stage: str, settings: StageSettings, sets: DataSets) -> None:
    asked, there = settings.data.get("num_train_clips"), sets.num_clips(settings.train)
    if isinstance(asked, int) and asked > there:
        raise PisaError(
            f"{stage}.data.num_train_clips={asked}, but the data set {settings.train!r} has "
            f"{there} clips; simulation.datasets.{settings.train}.num_clips={asked} makes more"
        )


def _check_devices(trainer: Node, data: Node, sets: DataSets) -> None:
    """Every process validates at least one clip; Lightning would end in a traceback of each."""
    devices = trainer.get("devices")
    if isinstance(devices, list):
        devices = len(devices)
    if not isinstance(devices, int):
        return  # auto
    processes = devices * int(trainer.get("num_nodes") or 1)
    for name in (data[key] for key in SET_KEYS[1:] if key in data):
        clips = min(data.get("num_eval_clips") or processes, sets.num_clips(name))
        if clips < processes:
            raise PisaError(
                f"trainer.devices={devices} makes {processes} processes, but {name!r} has {clips} "
                "clips to validate on; each process needs one"
            )


def _trainer(tree: Node, stage: StageSettings) -> dict[str, Any]:
    """Lightning counts micro-batches between validations, the settings optimiser steps."""
    settings = dict(tree["trainer"])
    micro_batches = settings.get("accumulate_grad_batches", 1)
    if isinstance(micro_batches, int):
        steps = stage.validate_every or tree["validate_every"]
        settings["val_check_interval"] = steps * micro_batches
    return settings


def _entries(tree: Node, group: str, folder: Path) -> tuple[Part, ...]:
    """The parts of a group of named entries, in the run's folder; entries that are null are left
    out."""
    found = [(f"{group}.{name}", entry) for name, entry in (tree.get(group) or {}).items() if entry]
    return tuple(Part.checked(name, _replaced(entry, str(folder))) for name, entry in found)


def public_config(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """Plain containers without secrets; with ``resolve``, values of ``${oc.env:NAME}`` count as
    secret whatever their name."""
    settings = OmegaConf.to_container(cfg, resolve=resolve)
    asked = _ENVIRONMENT.findall(OmegaConf.to_yaml(cfg))
    values = {f"{name}_token": os.environ[name] for name in asked if name in os.environ}
    clean = redacted(settings, {**os.environ, **values})
    assert isinstance(clean, dict)
    return clean


def public_yaml(cfg: DictConfig) -> str:
    """The configuration, interpolations kept, as YAML without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(public_config(cfg)))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The whole configuration as plain values. Raises ``PisaError`` and OmegaConf's errors."""
    tree = plain(_with_run_dir(cfg))
    assert isinstance(tree, dict)
    return tree


def _with_run_dir(cfg: DictConfig) -> DictConfig:
    """A stage's folder is named by a digest of the resolved settings: a mark until it is known."""
    if "run_dir" not in list(cfg):  # `in` does not see a key whose value is missing
        return cfg
    copy = cfg.copy()
    copy.run_dir = RUN_DIR
    return copy
