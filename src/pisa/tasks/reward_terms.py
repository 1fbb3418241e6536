"""The parts of a reward, for the log."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from pisa.rewards.mix import WeightedReward


class RewardTerms:
    """Remembers the batch mean of every part of a reward at its last call, by name.

    A plain reward has one part, itself. The parts of a ``WeightedReward`` are kept without weight.
    ``names`` are those of the reward and of all that it is made of.
    """

    def __init__(self, reward: nn.Module) -> None:
        parts = dict(reward.rewards) if isinstance(reward, WeightedReward) else {"": reward}
        self.means: dict[str, Tensor] = {}
        self.names = {str(part.name) for part in reward.modules() if hasattr(part, "name")}
        for key, part in parts.items():
            part.register_forward_hook(partial(self._remember, key or reward_name(part)))

    def _remember(self, name: str, part: nn.Module, inputs: object, output: Tensor) -> None:
        self.means[name] = output.detach().float().mean()


def reward_name(reward: nn.Module) -> str:
    """The reward's ``name``, or its class."""
    return str(getattr(reward, "name", type(reward).__name__))
