"""ORO of the tiny Open-Sora model, alone or in several gloo processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from pisa.tasks.gradient_steps import RandomSteps
from pisa.tasks.oro import ORO
from tests.distributed.job import Recorder, tiny_opensora
from tests.tasks.toy import ToyData, make_trainer

GLOBAL_BATCH, STEPS = 4, 2
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"psft_weight": 0.1},
    "random_k": {"gradient_window": RandomSteps(1)},
    "replay": {"replay": True},
    "replay_frozen": {"replay": True, "other_steps": "frozen", "gradient_window": RandomSteps(1)},
}


class Similarity(nn.Module):
    """Minus the mean squared difference to the true clip, scaled up for gradients of size 1."""

    name = "similarity"

    def forward(self, generated: torch.Tensor, batch: Any) -> torch.Tensor:
        return -100 * (generated - batch.video).square().mean(dim=(1, 2, 3, 4))


@contextmanager
def in_float64() -> Iterator[None]:
    """New tensors, and what the code turns to float, are float64: rounding does not show."""
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def run(
    folder: Path, variant: str, world_size: int = 1, strategy: Any = "auto", accumulate: int = 1
) -> list[dict[str, torch.Tensor]]:
    """Gradients of each optimiser step, reduced over processes, before clipping."""
    recorder = Recorder()
    trainer = make_trainer(
        folder,
        STEPS,
        recorder,
        logger=False,
        strategy=strategy,
        devices=world_size,
        accumulate_grad_batches=accumulate,
    )
    task = ORO(
        tiny_opensora(),
        Similarity(),
        lr=1e-3,
        num_steps=2,
        guidance=2.0,
        **VARIANTS[variant],
        eps=1e-2,
    )
    trainer.fit(task, ToyData(12, GLOBAL_BATCH // world_size // accumulate))
    return recorder.gradients


def start(folder: Path, environment: dict[str, str]) -> None:
    """Every variant as one of several ranks; rank 0 leaves ``VARIANT.pt`` in ``folder``."""
    os.environ |= environment
    rank, world_size = (int(environment[name]) for name in ("RANK", "WORLD_SIZE"))
    for variant in VARIANTS:
        ddp = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
        with in_float64():
            gradients = run(folder / f"rank_{rank}", variant, world_size, ddp)
        if rank == 0:
            torch.save(gradients, folder / f"{variant}.pt")
