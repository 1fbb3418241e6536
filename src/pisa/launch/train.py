"""``train.py``: run the stages one after another, then score the results."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from pisa.callbacks.checkpoints import newest_checkpoint
from pisa.callbacks.loggers import WandbLogger
from pisa.callbacks.pisabench import REAL, PisaBench
from pisa.errors import PisaError, reason
from pisa.io.files import hold
from pisa.io.lightning_internals import AtomicCheckpointIO
from pisa.io.provenance import SETTINGS, machine_facts, provenance
from pisa.io.weights import save
from pisa.launch.evaluate import score_weights, scored_splits
from pisa.launch.runs import (
    StageRun,
    TrainRun,
    build_data,
    build_model,
    claimed,
    denoiser_file,
    is_first_process,
    prepare_torch,
)
from pisa.launch.targets import Part
from pisa.models.lora import add_lora
from pisa.ops.devices import free_memory, precision_of


def train(run: TrainRun) -> None:
    """Run the stages, then score base, each stage, and the two reference rows."""
    prepare_torch(run.seed)
    if run.scoring is not None:
        scored_splits(run.scoring)  # a mistake is reported before the training, not after it
    with claimed(run.folder, run.config_text):
        sources = train_stages(run)
        if run.scoring is not None and is_first_process():
            score_weights(run.scoring, sources)


def train_stages(run: TrainRun) -> dict[str, Path | None]:
    """Weights by row of the table: None for ``base``, then each stage's."""
    sources: dict[str, Path | None] = {"base": None}
    for stage in run.stages:
        sources[stage.row] = _stage_weights(stage, list(sources.values())[-1])
        free_memory()  # or the next stage would train beside this one's model
    return sources


def _stage_weights(run: StageRun, before: Path | None) -> Path:
    """Weights of a stage: given, left by an earlier run, or trained now."""
    settings = run.settings
    if settings.checkpoint is not None:
        given = f"{run.stage}.checkpoint={settings.checkpoint}"
        rank_zero_only(print)(f"{run.stage}: not trained, {given} is used")
        return denoiser_file(settings.checkpoint)
    start = before if settings.start is None else denoiser_file(settings.start)
    unfinished = is_first_process() and not run.weights.is_file()
    with hold(run.folder) if unfinished else nullcontext():  # finished weights are for everybody
        return run_stage(run, start)


def run_stage(run: StageRun, start: Path | None) -> Path:
    """Train a stage from ``start``, or resume where it was stopped.

    Returns the path of the denoiser's weights; a finished stage returns at once.

    Raises ``PisaError`` where it leaves no weights, ``KeyboardInterrupt`` where it was stopped.
    """
    if run.weights.is_file():
        print(f"{run.stage}: using {run.weights}")
        return run.weights
    settings = run.settings
    task = build_task(run, start)
    trainer = build_trainer(run)
    for logger in trainer.loggers:
        if settings.exports is None:
            logger.log_hyperparams({SETTINGS: dict(run.summary)})
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(run_facts(run))
    data = build_data(run.data, run.sets, batch_size=clips_per_rank(settings.batch_size, trainer))
    last = newest_checkpoint(run.folder / "checkpoints")
    rank_zero_only(print)(
        f"{run.stage}: {settings.max_steps} steps of {settings.batch_size} clips in {run.folder}"
    )
    try:
        trainer.fit(task, data, ckpt_path=last, weights_only=True)
    except SystemExit:  # how Lightning ends after a KeyboardInterrupt
        raise KeyboardInterrupt from None
    if settings.exports is not None:
        save(run.weights, part_tensors(getattr(task, settings.exports)))
    if not run.weights.is_file():
        raise PisaError(
            f"{run.stage} ended without {run.weights}; is callbacks.export switched off?"
        )
    return run.weights


def run_facts(run: StageRun) -> dict[str, Any]:
    """W&B's record of a run beside its hyper-parameters: origin, machine, configuration."""
    seed = run.config["seed"]
    origin = provenance({}, None, seed)
    return {
        "experiment": run.config["name"],
        "stage": run.stage,
        "seed": seed,
        "commit": origin["commit"],
        "versions": origin["versions"],
        "environment": machine_facts(),
        "config": dict(run.config),
    }


def build_task(run: StageRun, start: Path | None) -> pl.LightningModule:
    """The stage's LightningModule, with its model and its reward.

    A stage with ``exports`` trains a teacher on its own, which its task holds.
    """
    options: dict[str, Any] = {}
    lora = run.settings.lora
    if run.model is not None:
        options["model"] = build_model(run.model, start)
        if lora is not None:
            add_lora(options["model"].denoiser, lora.rank, lora.alpha, lora.targets)
    if run.reward is not None:
        options["reward"] = run.reward.build()
    return run.task.build(**options)


def clips_per_rank(batch_size: int, trainer: pl.Trainer) -> int:
    """Clips of one micro-batch; ``batch_size`` counts those of an optimiser step on all ranks.

    Raises:
        PisaError: they cannot be dealt out evenly.
    """
    ranks, micro_batches = trainer.world_size, trainer.accumulate_grad_batches
    if batch_size % (ranks * micro_batches):
        raise PisaError(
            f"a batch of {batch_size} clips cannot be dealt out to {ranks} processes with "
            f"trainer.accumulate_grad_batches={micro_batches}: choose a multiple of "
            f"{ranks * micro_batches}"
        )
    return batch_size // (ranks * micro_batches)


def part_tensors(part: nn.Module) -> dict[str, Tensor]:
    """A part's tensors as they are to be written."""
    return {k: v.detach().contiguous().clone() for k, v in part.state_dict().items()}


def build_trainer(run: StageRun) -> pl.Trainer:
    """The trainer with its callbacks and loggers; partial callbacks get the tracker.

    Raises ``PisaError`` for devices that this machine does not have.
    """
    callbacks = [part.build() for part in run.callbacks]
    if any(isinstance(callback, partial) for callback in callbacks):
        given = {"tracker": run.tracker.build()}
        callbacks = [
            c(**given, **_real_clips(run, c)) if isinstance(c, partial) else c for c in callbacks
        ]
    settings = dict(run.trainer.settings)
    settings["precision"] = precision_of(str(settings.get("precision", "32-true")))
    try:
        trainer: pl.Trainer = Part(run.trainer.name, settings).build(
            max_steps=run.settings.max_steps,
            callbacks=callbacks,
            logger=[part.build() for part in run.loggers],
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(run.folder),
        )
    except Exception as error:
        cause = error.__cause__ or error
        if not isinstance(cause, MisconfigurationException):
            raise
        raise PisaError(f"trainer: {reason(cause)}") from error
    return trainer


def _real_clips(run: StageRun, callback: partial[Any]) -> dict[str, Any]:
    """The data module of real clips, for a callback that scores them."""
    if REAL not in callback.keywords.get("splits", ()) or callback.func is not PisaBench:
        return {}
    return {"real": run.real.build(root=str(run.sets.root))}
