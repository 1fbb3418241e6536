"""PisaBench during training: generates, tracks and scores validation clips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import lightning.pytorch as pl
import torch.distributed as dist
from lightning.pytorch.loggers import WandbLogger

from pisa.bench.collect import Collection
from pisa.bench.references import VALIDATION, ModelSource, Sampling
from pisa.bench.row import METRICS, ScoreRow
from pisa.bench.score import Scorer, check_prompt
from pisa.data.loaders import eval_loader
from pisa.data.real import RealDataModule
from pisa.errors import PisaError
from pisa.perception.base import Tracker
from pisa.ranges import Count, Seed, WholeNumber
from pisa.tasks.base import model_of
from pisa.types import Batch

REAL = "real"
COLUMNS = ("clip", *METRICS)


class StepInterval:
    """Due when a multiple of ``every_n_steps`` has passed since the last time (None: always)."""

    def __init__(self, every_n_steps: int | None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.last_step: int | None = None

    def due(self, step: int) -> bool:
        """Whether to act at optimiser step ``step``; remembers it if so."""
        if self.every_n_steps is not None and self.last_step is not None:
            n = self.every_n_steps
            if step // n == self.last_step // n:
                return False
        self.last_step = step
        return True


class PisaBench(pl.Callback):
    """Scores clips of the validation loaders; means are logged with the number they are over.

    Logs ``pisabench/<split>/<metric>``, ``pisabench/<split>/<metric>_n`` (clips where the metric
    is defined), ``pisabench/<split>/n`` (clips scored) and ``pisabench/<split>/failed`` (videos
    that hold NaN or infinity). It acts in validation, so with the average weights where the EMA
    callback is on. ``collection`` holds the last rows and failures.

    Args:
        tracker: follows the dropping object; kept outside checkpoints.
        splits: names of the validation loaders, in their order.
        every_n_steps: optimiser steps between two runs; None runs at every validation.
        max_clips: per split, over all ranks; None is all.
        sampling: how the videos are sampled.
        seed: with the clip's name it fixes the noise.
        worst: clips of each split with the largest L2 that are sent to W&B as a table; 0 is none.
        prompt: of the tracker, see ``pisa.bench.score.track_dropping``.
        real: reads the clips of the split ``real``, which is no validation loader: these clips
            differ in length, and have no validation loss.
    """

    def __init__(
        self,
        tracker: Tracker,
        protocol: str = "official",
        splits: Sequence[str] = ("sim_seen", "sim_unseen"),
        every_n_steps: Count | None = None,
        max_clips: Count | None = None,
        sampling: Sampling = VALIDATION,
        seed: Seed = 0,
        worst: WholeNumber = 5,
        prompt: Literal["mask", "points"] = "mask",
        real: RealDataModule | None = None,
    ) -> None:
        if REAL in splits and real is None:
            raise PisaError("pisabench scores real clips only where it is given their data module")
        self.real = real if REAL in splits else None
        self.tracker = tracker
        self.prompt = check_prompt(prompt, tracker)
        self.protocol = protocol
        self.splits = tuple(splits)
        self.max_clips = max_clips
        self.sampling = sampling
        self.seed = seed
        self.worst = worst
        self.collection = Collection(shown_clips=0)
        self._interval = StepInterval(every_n_steps)
        self._running = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._running = not trainer.sanity_checking and self._interval.due(trainer.global_step)
        self.collection = Collection(shown_clips=0)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loaders = [split for split in self.splits if split != REAL]
        if not self._running or dataloader_idx >= len(loaders):
            return
        self._score(loaders[dataloader_idx], batch, trainer, pl_module)

    def _score(
        self, split: str, batch: Batch, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        """Score the clips of a batch that are still wanted."""
        wanted = self._still_wanted(split, trainer.world_size)
        if wanted == 0:
            return
        scorer = Scorer(self.tracker, self.protocol, pl_module.device, self.prompt)
        for result in scorer.score_source(
            ModelSource(model_of(pl_module), self.sampling, self._least_frames(split)),
            [batch.clips(slice(wanted))],
            model=type(pl_module).__name__.lower(),
            split=split,
            seed=self.seed,
        ):
            self.collection.add(result)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._running:
            return
        if self.real is not None:
            for batch in self._real_clips(trainer):
                self._score(REAL, batch, trainer, pl_module)
        found = self.collection
        found.rows, found.failures = _gathered(found.rows), _gathered(found.failures)
        for split in self.splits:
            rows = [row for row in found.rows if row.split == split]
            failed = sum(failure.split == split for failure in found.failures)
            if rows or failed:
                pl_module.log_dict(_means(split, rows, failed))
                self._send_worst(trainer, split, rows)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Fetch the real clips before the first step rather than after hours of training."""
        if self.real is not None:
            if trainer.is_global_zero:
                self.real.prepare_data()
            trainer.strategy.barrier()
            self.real.setup()

    def _real_clips(self, trainer: pl.Trainer) -> Iterator[Batch]:
        """This process' real clips, as many as are wanted."""
        assert self.real is not None and self.real.test_set is not None
        most = None if self.max_clips is None else -(-self.max_clips // trainer.world_size)
        loader = eval_loader(self.real.test_set, 1, self.real.num_workers, trainer)
        yield from islice(loader, most)

    def _least_frames(self, split: str) -> int | None:
        return self.real.num_frames if split == REAL and self.real is not None else None

    def state_dict(self) -> dict[str, Any]:
        return {"last_step": self._interval.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._interval.last_step = state_dict["last_step"]

    def _send_worst(self, trainer: pl.Trainer, split: str, rows: Sequence[ScoreRow]) -> None:
        if not trainer.is_global_zero or not self.worst:
            return
        table = worst_clips(rows, self.worst)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table(
                    f"worst_clips/{split}", list(COLUMNS), table, step=trainer.global_step
                )

    def _still_wanted(self, split: str, world_size: int) -> int | None:
        if self.max_clips is None:
            return None
        found = self.collection
        splits = [*(row.split for row in found.rows), *(f.split for f in found.failures)]
        done = splits.count(split)
        return max(0, -(-self.max_clips // world_size) - done)


def worst_clips(rows: Sequence[ScoreRow], count: int) -> list[list[Any]]:
    """Rows of ``COLUMNS``, the largest L2 first; a clip without one (nothing tracked) is worst."""
    ordered = sorted(rows, key=lambda row: -(row.l2 if math.isfinite(row.l2) else math.inf))
    return [[row.as_dict().get(column) for column in COLUMNS] for row in ordered[:count]]


def _means(split: str, rows: Sequence[ScoreRow], failed: int) -> dict[str, float]:
    values = {f"pisabench/{split}/n": float(len(rows)), f"pisabench/{split}/failed": float(failed)}
    for metric in METRICS:
        numbers = [value for row in rows if (value := row.as_dict().get(metric)) is not None]
        finite = [value for value in numbers if math.isfinite(value)]
        values[f"pisabench/{split}/{metric}_n"] = float(len(finite))
        if finite:
            values[f"pisabench/{split}/{metric}"] = sum(finite) / len(finite)
    return values


def _gathered(items: list[Any]) -> list[Any]:
    """The items of all ranks, in rank order."""
    if not (dist.is_available() and dist.is_initialized()):
        return items
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, items)
    return [item for part in everyone for item in part]
