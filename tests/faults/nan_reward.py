"""A reward that is not a number once in a while, for the fault `nan-reward`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pisa.types import Batch


class NanReward(nn.Module):
    """Minus the mean brightness, and NaN in every fourth training call."""

    name = "nan"

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, generated: Tensor, batch: Batch) -> Tensor:
        reward = -generated.mean(dim=(1, 2, 3, 4))
        if torch.is_grad_enabled():
            self.calls += 1
            if self.calls % 4 == 0:
                return reward * float("nan")
        return reward
