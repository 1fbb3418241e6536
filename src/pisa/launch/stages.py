"""One training stage: task, data, callbacks and trainer from the configuration, then fit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch import Tensor, nn

from pisa.callbacks.checkpoints import newest_checkpoint
from pisa.callbacks.wandb_logger import WandbLogger
from pisa.data.simulated import SimulatedDataModule
from pisa.io.checkpoint_io import AtomicCheckpointIO
from pisa.io.provenance import machine_facts, provenance
from pisa.launch.datasets import DataSets
from pisa.launch.public import public_config
from pisa.launch.targets import instantiate
from pisa.models.base import VideoModel
from pisa.models.lora import add_lora
from pisa.ops.devices import precision_of
from pisa.reports.figures.run_log import SETTINGS, settings_of
from pisa.tasks.weights import load_denoiser, write_tensors
from pisa.types import PisaError

WEIGHTS = "weights.safetensors"


def build_model(cfg: DictConfig, weights: Path | None) -> VideoModel:
    """The configured base model, with the denoiser of ``weights`` where given."""
    model: VideoModel = instantiate(cfg.model)
    if weights is not None:
        load_denoiser(model.denoiser, weights)
    return model


def build_data(cfg: DictConfig, sets: DataSets, **options: Any) -> SimulatedDataModule:
    """The configured data module over data sets that are simulated when missing.

    ``options`` override its settings; ``train`` names a data set of ``cfg.simulation``.
    """
    sets_of = ("train", "sim_seen", "sim_unseen", "test")
    names = {key: cfg.data[key] for key in sets_of if key in cfg.data}
    names |= {key: options.pop(key) for key in list(options) if key in names}
    folders = {key: sets.folder_name(name) for key, name in names.items()}
    prepare = {"prepare": sets.prepare} if folders else {}
    return instantiate(cfg.data, root=cfg.data_dir, **folders, **prepare, **options)


def run_stage(cfg: DictConfig, stage: str, folder: Path, start: Path | None) -> Path:
    """Train a stage in ``folder`` from ``start``, or go on where it stopped.

    Returns the path of the denoiser's weights; a finished stage returns at once.

    Raises ``PisaError`` where it leaves no weights, ``KeyboardInterrupt`` where it was stopped.
    """
    weights = folder / WEIGHTS
    if weights.is_file():
        print(f"{stage}: using {weights}")
        return weights
    chosen = cfg[stage]
    task = build_task(cfg, stage, start)
    trainer = build_trainer(cfg, chosen.max_steps)
    if "exports" not in chosen:
        for logger in trainer.loggers:
            logger.log_hyperparams({SETTINGS: settings_of(cfg, stage)})
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(run_facts(cfg, stage))
    data = build_data(
        cfg,
        DataSets(cfg),
        train=chosen.train,
        batch_size=clips_per_rank(chosen.batch_size, trainer),
        **chosen.get("data", {}),
    )
    last = newest_checkpoint(folder / "checkpoints")
    rank_zero_only(print)(
        f"{stage}: {chosen.max_steps} steps of {chosen.batch_size} clips in {folder}"
    )
    try:
        trainer.fit(task, data, ckpt_path=last, weights_only=True)
    except SystemExit:  # how Lightning ends after a KeyboardInterrupt
        raise KeyboardInterrupt from None
    if "exports" in chosen:
        write_tensors(weights, part_tensors(getattr(task, chosen.exports)))
    if not weights.is_file():
        raise PisaError(f"{stage} ended without {weights}; is callbacks.export switched off?")
    return weights


def run_facts(cfg: DictConfig, stage: str) -> dict[str, Any]:
    """What W&B is told of a run beside its hyper-parameters: origin, machine, configuration."""
    origin = provenance({}, None, int(cfg.seed))
    return {
        "experiment": cfg.name,
        "stage": stage,
        "seed": int(cfg.seed),
        "commit": origin["commit"],
        "versions": origin["versions"],
        "environment": machine_facts(),
        "config": public_config(cfg, resolve=True),
    }


def build_task(cfg: DictConfig, stage: str, start: Path | None) -> pl.LightningModule:
    """The stage's LightningModule; a stage with a reward gets it built.

    A stage with ``exports`` trains a part on its own (codec, teacher), which its task holds.
    """
    options: dict[str, Any] = {}
    if "exports" not in cfg[stage]:
        options["model"] = build_model(cfg, start)
        if cfg[stage].get("lora"):
            add_lora(options["model"].denoiser, **cfg[stage].lora)
    if "reward" in cfg[stage]:
        options["reward"] = instantiate(cfg[stage].reward)
    return instantiate(cfg[stage].task, **options)


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


def build_trainer(cfg: DictConfig, max_steps: int) -> pl.Trainer:
    """The trainer with the configured callbacks and loggers; partial callbacks get the tracker."""
    callbacks = [instantiate(entry) for entry in (cfg.callbacks or {}).values() if entry]
    if any(isinstance(callback, partial) for callback in callbacks):
        tracker = instantiate(cfg.perception.tracker)
        callbacks = [c(tracker=tracker) if isinstance(c, partial) else c for c in callbacks]
    loggers = [instantiate(entry) for entry in (cfg.logger or {}).values() if entry]
    return instantiate(
        cfg.trainer,
        precision=precision_of(cfg.trainer.precision),
        max_steps=max_steps,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=cfg.run_dir,
    )
