"""A weighted sum of rewards, and the parts of a reward for the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.rewards.base import Reward, reward_name
from pisa.types import Batch


class WeightedReward(Reward):
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
        if not all(math.isfinite(weight) for weight in weights.values()):
            raise PisaError(f"weights of rewards must be finite numbers, not {dict(weights)}")
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


class RewardTerms:
    """Remembers the batch mean of every part of a reward at its last call, by name.

    A plain reward has one part, itself. The parts of a ``WeightedReward`` are kept without weight.
    ``names`` are those of the reward and of all that it is made of.
    """

    def __init__(self, reward: nn.Module) -> None:
        parts = {reward_name(reward): reward}
        if isinstance(reward, WeightedReward):
            parts = {name: part for name, part in reward.rewards.items() if reward.weights[name]}
        self.names = {str(part.name) for part in reward.modules() if hasattr(part, "name")}
        self.means = dict.fromkeys(parts, torch.tensor(float("nan")))
        for name, part in parts.items():
            part.register_forward_hook(partial(self._remember, name))

    def clear(self, device: torch.device) -> None:
        """Set every mean to NaN, for a batch that the reward is not computed for."""
        self.means = dict.fromkeys(self.means, torch.tensor(float("nan"), device=device))

    def _remember(self, name: str, part: nn.Module, inputs: object, output: Tensor) -> None:
        self.means[name] = output.detach().float().mean()
