"""Checkpoints to resume from, also after Ctrl-C, and weights for others to use."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from pisa.callbacks.ema import averaged_weights
from pisa.callbacks.loggers import CSVLogger
from pisa.io.lightning_internals import as_before_the_batch, count_logged_steps
from pisa.models.lora import exported_state
from pisa.ranges import Count
from pisa.tasks.base import DenoiserTask, denoiser_of, passes_metadata
from pisa.tasks.weights import codec_metadata, save_adapter, save_denoiser

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StepCheckpoint(Checkpoint):
    """Writes ``folder/step_XXXXXX.ckpt`` after every ``every_n_steps`` optimiser steps.

    Lightning's ``ModelCheckpoint`` isn't used: it saves before the step's metrics are logged and
    before its validation, which a run resumed from there leaves out. This one saves when all that
    is done, so that a run killed at any moment and resumed repeats weights and logs bit for bit.
    The newest file is kept, all of them with ``keep_all``.
    """

    def __init__(self, folder: Path | str, every_n_steps: Count, keep_all: bool = False) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.keep_all = keep_all
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.drop_from(trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        count_logged_steps(trainer)
        if step == self._last_step or step % self.every_n_steps:
            return
        self._last_step = step
        path = self.folder / f"step_{step:06d}.ckpt"
        save_between_steps(trainer, path)
        if trainer.is_global_zero and not self.keep_all:
            for other in self.folder.glob("*.ckpt"):
                if other.name != path.name:
                    other.unlink(missing_ok=True)


class StopOnSignal(Checkpoint):
    """Ctrl-C and SIGTERM end a run once the running step is done, with a checkpoint in ``path``.

    Done means logged and, where it is due, validated; a second signal does not wait. As a
    ``Checkpoint`` it runs after all other callbacks. A run in its last step just ends.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        asked = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        if not asked or batch_idx % trainer.accumulate_grad_batches:
            return
        if self.path.is_symlink():
            self.path.unlink()
        save_between_steps(trainer, self.path)
        raise KeyboardInterrupt

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            # Otherwise Lightning has put back the handlers from before the fit. Its own, kept in
            # `_before`, would hold the trainer and its model, and swallow SIGTERM from here on.
            if signal.getsignal(number) == self._ask:
                signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class ExportWeights(pl.Callback):
    """Writes the denoiser to ``path`` when a fit ends: the average where the EMA callback is on.

    LoRA adapters are in it beside the base model's weights (``pisa hub`` merges them); ``adapter/``
    then holds this run's alone, as peft reads it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metadata = {"task": type(pl_module).__name__, "step": str(trainer.global_step)}
        if isinstance(pl_module, DenoiserTask):
            metadata |= codec_metadata(pl_module.model) | passes_metadata(pl_module)
        denoiser, write = denoiser_of(pl_module), trainer.is_global_zero
        with averaged_weights(trainer):
            save_adapter(self.path.parent / "adapter", denoiser, write=write)
            save_denoiser(self.path, exported_state(denoiser), metadata, write=write)
        trainer.strategy.barrier()  # the next stage reads the file on every rank


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that was written last; None where there is none."""
    written: dict[Path, int] = {}
    for path in folder.glob("*.ckpt"):
        with suppress(FileNotFoundError):  # a run in progress removes its older ones
            written[path] = path.stat().st_mtime_ns
    return max(written, key=written.__getitem__, default=None)


def save_between_steps(trainer: pl.Trainer, path: Path) -> None:
    """A checkpoint from ``on_train_batch_start``: all of the past step, nothing of the next."""
    with as_before_the_batch(trainer):
        trainer.save_checkpoint(path)
