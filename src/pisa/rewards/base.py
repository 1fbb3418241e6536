"""The base class of ORO's rewards, and the one place that calls a reward."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.types import Batch


class Reward(nn.Module):
    """Scores generated clips against the true clips they should equal, one number per clip.

    The gradient flows to the generated clips only: truth is computed without gradient and teachers
    are frozen. ``name`` is used in logs and tables.
    """

    name: str

    @abstractmethod
    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        """Higher is better; ``generated`` is nominally in [-1, 1]."""


def reward_name(reward: nn.Module) -> str:
    """The reward's ``name``, or its class where it has none."""
    return str(getattr(reward, "name", type(reward).__name__))


def rewards_of(
    reward: nn.Module, generated: Float[Tensor, "b 3 t h w"], batch: Batch
) -> Float[Tensor, " b"]:
    """The reward of every clip, in float32 also under autocast.

    Raises:
        PisaError: it is not one number per clip.
    """
    # Teachers run in their own precision: flow in bfloat16 would be off by a quarter pixel.
    with torch.autocast(generated.device.type, enabled=False):
        rewards: Tensor = reward(generated.float(), batch)
    if rewards.shape != (len(batch),):
        raise PisaError(
            f"reward {reward_name(reward)} must return one number per clip, "
            f"[{len(batch)}], but returned {list(rewards.shape)}"
        )
    return rewards


def masked_mean(values: Float[Tensor, " b *d"], mask: Bool[Tensor, " b *d"]) -> Float[Tensor, " b"]:
    """Mean per clip over the true positions of ``mask``; 0 where there are none.

    A value that is not finite makes the mean NaN or infinite even outside the mask: a failed
    teacher must not go unnoticed.
    """
    weight = mask.to(values).flatten(1)
    return (weight * values.flatten(1)).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
