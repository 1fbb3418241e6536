"""The processes that torchrun started: shares of the work, barriers, results brought together."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")


@dataclass(frozen=True)
class RankInfo:
    """This process among those that torchrun started."""

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def from_environment(cls) -> RankInfo:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ.get(n, d)) for n, d in zip(names, (0, 1, 0), strict=True)))

    def share(self, jobs: Sequence[Item]) -> list[Item]:
        """Every ``world_size``-th of the jobs, from the rank on."""
        return list(jobs[self.rank :: self.world_size])

    def device(self, chosen: torch.device) -> torch.device:
        """The device itself; of several GPUs, the one of this process."""
        if chosen.type != "cuda":
            return chosen
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def wait(self) -> None:
        """Until every process has come to this point."""
        if self.world_size == 1:
            return
        self._join()
        dist.barrier()

    def gather(self, own: Item) -> list[Item]:
        """The objects of all processes in the order of their ranks; every process gets the list."""
        if self.world_size == 1:
            return [own]
        self._join()
        everyone: list[Item | None] = [None] * self.world_size
        dist.all_gather_object(everyone, own)
        return everyone  # type: ignore[return-value]

    def _join(self) -> None:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=datetime.timedelta(days=14))
