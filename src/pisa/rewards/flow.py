"""Optical-flow reward (paper Section 4.3, Eq. 13-14)."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pisa.errors import PisaError, check_choice
from pisa.perception.base import FlowEstimator
from pisa.ranges import NonNegative, WholeNumber
from pisa.rewards.base import Reward, masked_mean
from pisa.rewards.truth import TruthCache
from pisa.types import Batch

MOVING_PX = 0.5
REGIONS = ("all", "moving", "objects")


class FlowReward(Reward):
    """``-mean |V_gen - V_gt|`` in pixels; both flows are the teacher's, 0 is the maximum.

    Args:
        flow_estimator: frozen teacher.
        region: mean over ``all`` pixels (paper); over those ``moving`` by more than 0.5 px in
            either clip; or over the true pixels of each of the ``objects``, which then count
            alike whatever their size. The latter two are deviations: small objects are not
            averaged away.
        blur_px: standard deviation of a Gaussian that blurs both flows first (deviation; 0 is the
            paper). Where an object and its true place do not overlap, the sharp difference only
            says that both are wrong; the blurred one compares how much moves thereabouts.
        cache_clips: true clips whose flow is kept for when they come again; 0 keeps none.
    """

    def __init__(
        self,
        flow_estimator: FlowEstimator,
        region: str = "all",
        blur_px: NonNegative = 0.0,
        cache_clips: WholeNumber = 0,
    ) -> None:
        super().__init__()
        check_choice("region of the flow reward", region, REGIONS)
        if not (blur_px >= 0 and math.isfinite(blur_px)):
            raise PisaError(f"blur_px of the flow reward must be 0 or more, not {blur_px}")
        if cache_clips < 0:
            raise PisaError(f"cache_clips of the flow reward must be 0 or more, not {cache_clips}")
        self.name = "flow"
        self.flow_estimator = flow_estimator
        self.region = region
        self.blur_px = blur_px
        self._truth = TruthCache(self._flow, cache_clips)

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        truth = self._truth(batch)
        flow = self._flow(generated)
        difference = (flow - truth).abs().mean(dim=1)
        if self.region == "all":
            return -difference.flatten(1).mean(dim=1)
        if self.region == "objects":
            return -object_means(difference, batch.masks[:, :, :-1])
        return -masked_mean(difference, moving(flow.detach()) | moving(truth))

    def _flow(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2 u h w"]:
        flow = self.flow_estimator.flow(video)
        if self.blur_px == 0:
            return flow
        images = rearrange(flow, "b c u h w -> (b u) c h w")
        side = 2 * min(math.ceil(3 * self.blur_px), min(images.shape[-2:]) - 1) + 1
        blurred = gaussian_blur(images, [side, side], [self.blur_px, self.blur_px])
        return rearrange(blurred, "(b u) c h w -> b c u h w", b=flow.shape[0])


def object_means(
    values: Float[Tensor, "b u h w"], masks: Bool[Tensor, "b n u h w"]
) -> Float[Tensor, " b"]:
    """Mean over the objects that are seen of the mean of ``values`` over each object's pixels."""
    weight = masks.to(values).flatten(2)
    size = weight.sum(dim=2)
    means = (weight * values.flatten(1)[:, None]).sum(dim=2) / size.clamp(min=1)
    seen = (size > 0).to(values)
    return (means * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)


def moving(flow: Float[Tensor, "b 2 u h w"]) -> Bool[Tensor, "b u h w"]:
    """Pixels that move more than half a pixel to the next frame."""
    return flow.norm(dim=1) > MOVING_PX
