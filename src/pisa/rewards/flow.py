"""Optical-flow reward (paper Section 4.3, Eq. 13-14)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.perception.base import FlowEstimator
from pisa.types import Batch

MOVING_PX = 0.5


class FlowReward(nn.Module):
    """``-mean |V_gen - V_gt|`` in pixels; both flows are the teacher's, 0 is the maximum.

    Args:
        flow_estimator: frozen teacher.
        region: mean over ``all`` pixels (paper), or over those that move by more than 0.5 px in
            either clip (deviation: small objects are not averaged away).
    """

    def __init__(
        self, flow_estimator: FlowEstimator, region: Literal["all", "moving"] = "all"
    ) -> None:
        super().__init__()
        self.name = "flow"
        self.flow_estimator = flow_estimator
        self.region = region

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        with torch.no_grad():
            truth = self.flow_estimator.flow(batch.video)
        flow = self.flow_estimator.flow(generated)
        difference = (flow - truth).abs().mean(dim=1)
        if self.region == "all":
            return -difference.flatten(1).mean(dim=1)
        weight = (_moves(flow.detach()) | _moves(truth)).to(difference).flatten(1)
        total = (weight * difference.flatten(1)).sum(dim=1)
        return -total / weight.sum(dim=1).clamp(min=1)


def _moves(flow: Float[Tensor, "b 2 u h w"]) -> Tensor:
    return flow.norm(dim=1) > MOVING_PX
