"""A weighted sum of rewards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.types import Batch, PisaError


class WeightedReward(nn.Module):
    """``sum_k weight_k reward_k``; a reward of weight 0 is not computed.

    Raises:
        PisaError: rewards and weights have different names, or no weight differs from 0.
    """

    def __init__(
        self, rewards: Mapping[str, nn.Module], weights: Mapping[str, float | int]
    ) -> None:
        super().__init__()
        if not rewards or set(rewards) != set(weights):
            raise PisaError(
                f"rewards {sorted(rewards)} and weights {sorted(weights)} must have the same names"
            )
        if not any(weights.values()):
            raise PisaError(f"all weights of the rewards {sorted(rewards)} are 0")
        self.name = "+".join(name for name in rewards if weights[name])
        self.rewards = nn.ModuleDict(rewards)
        self.weights = {name: float(weights[name]) for name in rewards}

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        parts = self.components(generated, batch)
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum(dim=0)

    def components(
        self, generated: Float[Tensor, "b 3 t h w"], batch: Batch
    ) -> dict[str, Float[Tensor, " b"]]:
        """Each reward by name, without its weight."""
        used = {name: reward for name, reward in self.rewards.items() if self.weights[name]}
        return {name: reward(generated, batch) for name, reward in used.items()}
