"""A quirk of the paper's release: generated clips reach the rewards in a wrong colour range."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pisa.rewards.base import Reward
from pisa.types import Batch


class OfficialScaling(Reward):
    """Any reward, with generated clips scaled as the release does.

    Clips in [-1, 1] are taken for [0, 1]: the dark half of the colours becomes black and passes no
    gradient. The true clips keep their right scale, so the reward has its maximum elsewhere.
    """

    def __init__(self, reward: Reward) -> None:
        super().__init__()
        self.name = f"official_{reward.name}"
        self.reward = reward

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        return self.reward(official_scaling(generated), batch)


def official_scaling(video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
    """``clamp(255 x + 0.5, 0, 255)`` of x in [-1, 1], brought back to [-1, 1]."""
    return (video * 255 + 0.5).clamp(0, 255) / 127.5 - 1
