"""Depth reward (paper Section 4.3, Eq. 16-17; the power and the scale as its release)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.perception.base import DepthEstimator
from pisa.types import Batch


class DepthReward(nn.Module):
    """``-mean |D_gen - D_gt| ** power`` of normalised inverse depth; 0 is the maximum.

    Args:
        depth_estimator: frozen teacher; its result is scaled per frame to [0, ``scale``] by its
            own minimum and maximum.
        power: 1 as in the paper's Eq. 17, 2 as in its release.
        scale: 255 in the release.
    """

    def __init__(
        self, depth_estimator: DepthEstimator, power: Literal[1, 2] = 1, scale: float = 255.0
    ) -> None:
        super().__init__()
        self.name = "depth"
        self.depth_estimator = depth_estimator
        self.power = power
        self.scale = scale

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        with torch.no_grad():
            truth = normalised_per_frame(self.depth_estimator.depth(batch.video))
        depth = normalised_per_frame(self.depth_estimator.depth(generated))
        difference = self.scale * (depth - truth).abs()
        return -difference.pow(self.power).flatten(1).mean(dim=1)


def normalised_per_frame(
    depth: Float[Tensor, "b t h w"], eps: float = 1e-6
) -> Float[Tensor, "b t h w"]:
    """Each frame scaled to [0, 1] by its minimum and maximum; a constant frame becomes 0."""
    low, high = depth.amin(dim=(-2, -1), keepdim=True), depth.amax(dim=(-2, -1), keepdim=True)
    return (depth - low) / (high - low + eps)
