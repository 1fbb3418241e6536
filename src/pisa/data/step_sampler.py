"""An endless batch sampler whose batch ``k`` depends on nothing but the seed and ``k``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler

from pisa.types import PisaError


class StepSampler(Sampler[list[int]]):
    """Batches of indices in ``[0, num_items)``, from ``start_step`` on, without end.

    The permutations of epochs 0, 1, 2 ... follow each other in one stream; global batch ``k`` of
    ``batch_size * world_size`` items is the ``k``-th piece of it, and each rank takes its own part.
    So no item comes twice in an epoch, none is dropped, and a run resumed at step ``k`` sees what
    an uninterrupted one would. ``start_step`` may be a function, asked at each ``iter``.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        start_step: int | Callable[[], int] = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_items < 1 or batch_size < 1:
            raise PisaError("training needs at least one clip and a batch size of at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in [0, {world_size})")
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.start_step, self.rank, self.world_size = start_step, rank, world_size
        self._epoch = -1
        self._order: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start_step() if callable(self.start_step) else self.start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> list[int]:
        """The indices of this rank in global batch ``step``."""
        first = (step * self.world_size + self.rank) * self.batch_size
        return [self._item(place) for place in range(first, first + self.batch_size)]

    def _item(self, place: int) -> int:
        epoch, offset = divmod(place, self.num_items)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            self._order = torch.randperm(self.num_items, generator=generator).tolist()
            self._epoch = epoch
        return self._order[offset]


def _mix(seed: int, epoch: int) -> int:
    """A 63-bit seed; neighbouring (seed, epoch) pairs give unrelated permutations."""
    value = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**64
    value = ((value ^ (value >> 30)) * 0x94D049BB133111EB) % 2**64
    return (value ^ (value >> 31)) >> 1
