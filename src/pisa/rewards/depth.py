"""Depth reward (paper Section 4.3, Eq. 16-17; the power and the scale as its release)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from pisa.errors import PisaError, check_choice
from pisa.perception.base import DepthEstimator
from pisa.ranges import Positive
from pisa.rewards.base import Reward, masked_mean
from pisa.rewards.truth import TruthCache
from pisa.types import Batch

CHANGED = 0.05  # of the frame's depth range


class DepthReward(Reward):
    """``-mean |D_gen - D_gt| ** power`` of normalised inverse depth; 0 is the maximum.

    Args:
        depth_estimator: frozen teacher; its result is scaled per frame to [0, ``scale``] by its
            own minimum and maximum.
        power: 1 as in the paper's Eq. 17, 2 as in its release.
        scale: 255 in the release.
        region: mean over ``all`` pixels (paper), or over those whose depth has changed since frame
            0 by more than a twentieth of the range in either clip (deviation: small objects are
            not averaged away).
    """

    def __init__(
        self,
        depth_estimator: DepthEstimator,
        power: int = 1,
        scale: Positive = 255.0,
        region: str = "all",
    ) -> None:
        super().__init__()
        check_choice("power of the depth reward", power, (1, 2))
        check_choice("region of the depth reward", region, ("all", "changed"))
        if not (scale > 0 and math.isfinite(scale)):
            raise PisaError(f"scale of the depth reward must be more than 0, not {scale}")
        self.name = "depth"
        self.depth_estimator = depth_estimator
        self.power = power
        self.scale = scale
        self.region = region
        self._truth = TruthCache(self._depth)

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        truth, depth = self._truth(batch), self._depth(generated)
        difference = (self.scale * (depth - truth).abs()).pow(self.power)
        if self.region == "all":
            return -difference.flatten(1).mean(dim=1)
        return -masked_mean(difference, _changed(depth.detach()) | _changed(truth))

    def _depth(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t h w"]:
        return normalised_per_frame(self.depth_estimator.depth(video))


def normalised_per_frame(
    depth: Float[Tensor, "b t h w"], eps: float = 1e-6
) -> Float[Tensor, "b t h w"]:
    """Each frame scaled to [0, 1] by its minimum and maximum; a constant frame becomes 0."""
    low, high = depth.amin(dim=(-2, -1), keepdim=True), depth.amax(dim=(-2, -1), keepdim=True)
    return (depth - low) / (high - low + eps)


def _changed(depth: Float[Tensor, "b t h w"]) -> Tensor:
    return (depth - depth[:, :1]).abs() > CHANGED
