"""The private parts of Lightning that this project uses, and checkpoint files, in one place.

They were read in version ``LIGHTNING_VERSION``, to which pyproject.toml pins Lightning. Before
another version is allowed, read each function's counterpart there; a test repeats interrupted runs
bit for bit (tests/callbacks/test_step_checkpoint.py). The two loggers also use protected members of
the classes that they extend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.optim import Optimizer

from pisa.errors import PisaError, reason
from pisa.io.files import replace_file
from pisa.io.weights import check_finite, read_pickle

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


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints whole or absent, and never unpickled beyond tensors.

    Lightning's own way of writing copies across file systems.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        try:
            with replace_file(Path(path)) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch raises its own where the disk is full
            cause = reason(error.__context__ or error)
            raise PisaError(f"cannot write {path}: {cause}") from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Admits tensors and plain containers only, whatever ``weights_only`` says."""
        try:
            checkpoint = read_pickle(Path(path), map_location)
            state = dict(checkpoint["state_dict"])
        except (PisaError, KeyError, TypeError, ValueError) as error:
            raise PisaError(
                f"cannot resume from {path}, which is damaged or not a training checkpoint; delete "
                f"it to resume from an older one or to start this stage again ({reason(error)})"
            ) from error
        check_finite(state, str(path))
        return checkpoint
