"""PisaBench during training: generates, tracks and scores validation clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.pytorch.loggers import WandbLogger
from torch import nn

from pisa.bench.score import METRICS, ModelSource, evaluate_model, summarise
from pisa.callbacks.intervals import StepInterval
from pisa.perception.base import Tracker
from pisa.tasks.base import model_of
from pisa.types import Batch

COLUMNS = ("clip", *METRICS)


class PisaBench(pl.Callback):
    """Scores clips of the validation loaders; means are logged with the number they are over.

    Logs ``pisabench/<split>/<metric>``, ``pisabench/<split>/<metric>_n`` (clips where the metric
    is defined) and ``pisabench/<split>/n`` (clips scored). It acts in validation, so with the
    average weights where the EMA callback is on.

    Args:
        tracker: follows the dropping object; kept outside checkpoints.
        splits: names of the validation loaders, in their order.
        every_n_steps: optimiser steps between two runs; None runs at every validation.
        max_clips: per split, over all ranks; None is all.
        num_steps: Euler steps (release in validation: 10).
        guidance: classifier-free guidance scale (release in validation: 4.0).
        eta: above 0, with fresh noise in each step, see ``sample_ancestral``.
        seed: with the clip's name it fixes the noise.
        worst: clips of each split with the largest L2 that are sent to W&B as a table; 0 is none.
        caption: one prompt for all clips; None takes each clip's own.
    """

    def __init__(
        self,
        tracker: Tracker,
        protocol: str = "official",
        splits: Sequence[str] = ("sim_seen", "sim_unseen"),
        every_n_steps: int | None = None,
        max_clips: int | None = None,
        num_steps: int = 10,
        guidance: float = 4.0,
        seed: int = 0,
        caption: str | None = None,
        decode_chunk: int | None = None,
        worst: int = 5,
        eta: float = 0.0,
    ) -> None:
        self.tracker = tracker
        self.protocol = protocol
        self.splits = tuple(splits)
        self.max_clips = max_clips
        self.num_steps = num_steps
        self.guidance = guidance
        self.seed = seed
        self.caption = caption
        self.decode_chunk = decode_chunk
        self.worst = worst
        self.eta = eta
        self.rows: list[dict[str, Any]] = []
        self._interval = StepInterval(every_n_steps)
        self._running = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._running = not trainer.sanity_checking and self._interval.due(trainer.global_step)
        self.rows = []
        if self._running and isinstance(self.tracker, nn.Module):
            self.tracker.to(pl_module.device).eval()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._running or dataloader_idx >= len(self.splits):
            return
        split = self.splits[dataloader_idx]
        wanted = self._still_wanted(split, trainer.world_size)
        if wanted == 0:
            return
        self.rows += [
            result.row
            for result in evaluate_model(
                self._source(pl_module),
                [batch.clips(slice(wanted))],
                self.tracker,
                model=type(pl_module).__name__.lower(),
                split=split,
                seed=self.seed,
                protocol=self.protocol,
                device=pl_module.device,
            )
        ]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._running:
            return
        self.rows = _gathered(self.rows)
        for split in self.splits:
            rows = [row for row in self.rows if row["split"] == split]
            if rows:
                pl_module.log_dict(_means(split, rows))
                self._send_worst(trainer, split, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"last_step": self._interval.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._interval.last_step = state_dict["last_step"]

    def _send_worst(self, trainer: pl.Trainer, split: str, rows: list[dict[str, Any]]) -> None:
        if not trainer.is_global_zero or not self.worst:
            return
        table = worst_clips(rows, self.worst)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table(
                    f"worst_clips/{split}", list(COLUMNS), table, step=trainer.global_step
                )

    def _source(self, pl_module: pl.LightningModule) -> ModelSource:
        return ModelSource(
            model_of(pl_module),
            self.num_steps,
            self.guidance,
            caption=self.caption,
            decode_chunk=self.decode_chunk,
            eta=self.eta,
        )

    def _still_wanted(self, split: str, world_size: int) -> int | None:
        if self.max_clips is None:
            return None
        done = sum(row["split"] == split for row in self.rows)
        return max(0, -(-self.max_clips // world_size) - done)


def worst_clips(rows: Sequence[dict[str, Any]], count: int) -> list[list[Any]]:
    """Rows of ``COLUMNS``, the largest L2 first; a clip without one (nothing tracked) is worst."""
    ordered = sorted(rows, key=lambda row: -_or_infinity(row["l2"]))
    return [[row.get(column) for column in COLUMNS] for row in ordered[:count]]


def _or_infinity(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _means(split: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    values = {f"pisabench/{split}/n": float(len(rows))}
    for metric in METRICS:
        mean, count = summarise(rows, metric)
        values[f"pisabench/{split}/{metric}_n"] = float(count)
        if count:
            values[f"pisabench/{split}/{metric}"] = mean
    return values


def _gathered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all ranks, in rank order."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, rows)
    return [row for part in everyone for row in part]
