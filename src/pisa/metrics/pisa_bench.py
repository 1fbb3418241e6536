"""PisaBench as torchmetrics over the pure functions: one update per clip, then mean and count."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from pisa.metrics.pair import evaluate_pair, parse_protocol
from pisa.metrics.time_error import time_error
from pisa.ops.masks import AnnotatedPoints, MaskError, Masks


class PisaBenchMetric(Metric):
    """l2, Chamfer and IoU of clip pairs under one protocol.

    ``compute`` gives, for each metric ``m``, ``m`` (mean over the clips where it is defined),
    ``m_count`` (how many those are) and ``m_missing`` (clips where it is NaN). A pair that can't be
    scored raises in ``update``; nothing is skipped.
    """

    full_state_update = False

    def __init__(self, protocol: str = "official", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = parse_protocol(protocol).value
        self.names = ("l2", "chamfer", "iou") + (("miss_rate",) if protocol == "strict" else ())
        for name in self.names:
            self.add_state(f"clips_{name}", default=[], dist_reduce_fx="cat")

    def update(
        self,
        gt_masks: Masks,
        gen_masks: Masks,
        gt_fps: float,
        gen_fps: float,
        points: AnnotatedPoints | None = None,
    ) -> None:
        """Add one clip pair; arguments as in ``evaluate_pair``."""
        result = evaluate_pair(
            gt_masks, gen_masks, gt_fps, gen_fps, protocol=self.protocol, points=points
        )
        for name in self.names:
            value = torch.tensor([result[name]], dtype=torch.float64, device=self.device)
            getattr(self, f"clips_{name}").append(value)

    def compute(self) -> dict[str, Tensor]:
        summary: dict[str, Tensor] = {}
        for name, values in self.per_clip().items():
            summary |= _summary(name, values)
        return summary

    def per_clip(self) -> dict[str, Float[Tensor, " clips"]]:
        """Every clip's value, in the order of the updates."""
        return {name: _joined(getattr(self, f"clips_{name}")) for name in self.names}


class TimeErrorMetric(Metric):
    """Time error in seconds (paper Eq. 8); ``compute`` as in ``PisaBenchMetric``."""

    full_state_update = False
    clips_time_error: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("clips_time_error", default=[], dist_reduce_fx="cat")

    def update(self, gen_masks: Masks, fps_hz: float, drop_height_m: float) -> None:
        """Add one clip; arguments as in ``time_error``."""
        value = time_error(gen_masks, fps_hz, drop_height_m)
        self.clips_time_error.append(torch.tensor([value], dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        return _summary("time_error", self.per_clip()["time_error"])

    def per_clip(self) -> dict[str, Float[Tensor, " clips"]]:
        """Every clip's value, in the order of the updates."""
        return {"time_error": _joined(self.clips_time_error)}


def _joined(values: list[Tensor] | Tensor) -> Float[Tensor, " clips"]:
    """One vector from a list state (a tensor already after a distributed sync)."""
    if isinstance(values, Tensor):
        return values.reshape(-1)
    return torch.cat(values) if values else torch.empty(0, dtype=torch.float64)


def _summary(name: str, values: Float[Tensor, " clips"]) -> dict[str, Tensor]:
    if values.isinf().any():
        raise MaskError(f"{name} is infinite for a clip")
    missing = values.isnan()
    return {
        name: values[~missing].mean(),  # NaN when no clip has a value
        f"{name}_count": (~missing).sum(),
        f"{name}_missing": missing.sum(),
    }
