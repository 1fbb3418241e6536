"""The private parts of Lightning that this project reads or writes, in one place.

They were read in version ``LIGHTNING_VERSION``, to which pyproject.toml pins Lightning. Before
another version is allowed, read each function's counterpart there; a test repeats interrupted runs
bit for bit (tests/callbacks/test_step_checkpoint.py). The two loggers also use protected members of
the classes that they extend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.optim import Optimizer

LIGHTNING_VERSION = "2.6.6"


def batches_done(trainer: Trainer) -> int:
    """Training batches this run has processed on each rank, those before a resume included."""
    return int(_epoch_loop(trainer).batch_progress.total.processed)


def count_logged_steps(trainer: Trainer) -> None:
    """Give logged values the optimiser's step.

    A resume counts a step for a validation that it skips, at whatever interval it has now.
    """
    _epoch_loop(trainer)._batches_that_stepped = trainer.global_step


@contextmanager
def as_before_the_batch(trainer: Trainer) -> Iterator[None]:
    """Counters as a resume expects them from a checkpoint that is saved after validation.

    At ``on_train_batch_start`` the coming batch is counted as ready already.
    """
    progress = _epoch_loop(trainer).batch_progress
    for counts in (progress.total, progress.current):
        counts.ready -= 1
    try:
        yield
    finally:
        for counts in (progress.total, progress.current):
            counts.ready += 1


def optimizers_to_device(optimizers: Sequence[Optimizer], device: torch.device) -> None:
    """Move the optimisers' state."""
    _optimizers_to_device(optimizers, device)


def shard_over_all_ranks(strategy: ModelParallelStrategy) -> None:
    """Make the data-parallel mesh as large as the number of processes, on all nodes."""
    strategy._data_parallel_size = strategy.num_nodes * strategy.num_processes


def _epoch_loop(trainer: Trainer) -> Any:
    return trainer.fit_loop.epoch_loop  # type: ignore[attr-defined]
