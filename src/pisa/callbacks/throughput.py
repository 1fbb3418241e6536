"""Progress by optimiser steps: the bar, learning rate, clips per second, time per step, memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar

from pisa.io.lightning_internals import count_logged_steps
from pisa.io.progress import ProgressLog
from pisa.types import Batch

GIB = 1024**3


class StepProgressBar(RichProgressBar):
    """Lightning's bar without the epoch: a run has one, and it would say "Epoch 0/-2".

    In a log (no terminal), lines with the optimiser steps and the time to go.
    """

    _log: ProgressLog | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and trainer.max_steps > 0:
            self._log = ProgressLog("training", trainer.max_steps, "steps", trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer, *args)
        self._line(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any, **options: Any) -> None:
        super().on_validation_batch_end(trainer, *args, **options)
        self._line(trainer)

    def _line(self, trainer: pl.Trainer) -> None:
        if self._log is not None:
            self._log.update(trainer.global_step - self._log.present)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{'Training':{len(self.validation_description)}}"  # as wide: no flicker


class StepLearningRate(LearningRateMonitor):
    """Lightning's monitor, which in the first step of a resumed run logs the right step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any, **options: Any) -> None:
        count_logged_steps(trainer)  # `StepCheckpoint` does so too late for this callback
        super().on_train_batch_start(trainer, *args, **options)


class Throughput(pl.Callback):
    """Logs means over the steps since the last log line, validation time left out.

    ``throughput/clips_per_s`` counts all ranks, ``throughput/step_s`` is the time of one optimiser
    step, data loading included. Memory is that of this process since its start.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._clips = 0
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._clips += len(batch)
        steps = trainer.global_step - self._step
        if self._since is None or steps < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        elapsed_s = time.perf_counter() - self._since
        values = {
            "throughput/step_s": elapsed_s / steps,
            "throughput/clips_per_s": self._clips * trainer.world_size / elapsed_s,
            "memory/peak_rss_gib": peak_rss_bytes() / GIB,
        }
        if pl_module.device.type == "cuda":
            values["memory/peak_gpu_gib"] = torch.cuda.max_memory_allocated() / GIB
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)  # as the batch's own metrics
        self._restart(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._restart(trainer)

    def _restart(self, trainer: pl.Trainer) -> None:
        self._since = time.perf_counter()
        self._clips = 0
        self._step = trainer.global_step


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB
