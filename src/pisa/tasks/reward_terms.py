"""The call of a reward, and its parts for the log."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.rewards.mix import WeightedReward
from pisa.types import Batch, PisaError


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


def rewards_of(
    reward: nn.Module, generated: Float[Tensor, "b 3 t h w"], batch: Batch
) -> Float[Tensor, " b"]:
    """The reward of every clip, in float32 also under autocast.

    Teachers run in their own precision: flow in bfloat16 would be off by a quarter pixel.

    Raises:
        PisaError: it is not one number per clip.
    """
    with torch.autocast(generated.device.type, enabled=False):
        rewards: Tensor = reward(generated.float(), batch)
    if rewards.shape != (len(batch),):
        raise PisaError(
            f"reward {reward_name(reward)} must return one number per clip, "
            f"[{len(batch)}], but returned {list(rewards.shape)}"
        )
    return rewards
