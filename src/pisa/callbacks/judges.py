"""Judges for ``HackWatch`` that are no rewards: metrics of PisaBench."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pisa.bench.score import score_videos
from pisa.perception.base import Tracker
from pisa.types import Batch


class MetricJudge(nn.Module):
    """A metric of the tracked dropping object, signed so that higher is better.

    NaN where the metric is undefined, e.g. L2 of an object that has vanished under ``official``;
    ``strict`` gives such clips the worst value.
    """

    def __init__(
        self,
        tracker: Tracker,
        metric: Literal["l2", "chamfer", "iou", "time_error"] = "l2",
        protocol: str = "strict",
    ) -> None:
        super().__init__()
        self.name = metric
        self.tracker = tracker
        self.protocol = protocol
        self._sign = 1.0 if metric == "iou" else -1.0

    @torch.no_grad()
    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        rows = score_videos(generated, batch, self.tracker, self.protocol)
        return torch.tensor([self._sign * row[self.name] for row in rows], device=generated.device)
