"""Segmentation reward: soft mask IoU (paper Section 4.3, Eq. 10-11)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pisa.errors import PisaError, check_choice
from pisa.perception.base import Tracker
from pisa.ranges import Positive
from pisa.rewards.base import Reward
from pisa.types import Batch


class SegmentationReward(Reward):
    """Mean soft IoU of tracked masks in the generated clip with the true masks, in [0, 1].

    Soft masks are the sigmoid of the tracker's logits, prompted with the first true masks. The mean
    is over all frames, frame 0 included, and over the objects that frame 0 shows.

    Args:
        tracker: frozen teacher.
        objects: only the ``dropping`` one (paper, Section 4.3) or ``all`` (its release).
        eps: added to both sides of the ratio (release: 1e-6).
    """

    def __init__(
        self,
        tracker: Tracker,
        objects: str = "dropping",
        eps: Positive = 1e-6,
    ) -> None:
        super().__init__()
        check_choice("objects of the segmentation reward", objects, ("dropping", "all"))
        if not eps > 0:
            raise PisaError(f"eps of the segmentation reward must be more than 0, not {eps}")
        self.name = "segmentation"
        self.tracker = tracker
        self.objects = objects
        self.eps = eps

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        tracked = slice(-1, None) if self.objects == "dropping" else slice(None)
        masks = batch.masks[:, tracked]
        first = masks[:, :, 0]
        soft = self.tracker.segment(generated, batch.first_masks, tracked).sigmoid()
        iou = soft_iou(soft, masks.to(soft), self.eps).mean(dim=2)
        seen = first.flatten(2).any(dim=2).to(iou)
        return (iou * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)


def soft_iou(
    soft: Float[Tensor, "b n t h w"], target: Float[Tensor, "b n t h w"], eps: float
) -> Float[Tensor, "b n t"]:
    """sum(a b) / sum(a + b - a b) per object and frame (paper Eq. 10)."""
    product = soft * target
    union = (soft + target - product).sum(dim=(-2, -1))
    return (product.sum(dim=(-2, -1)) + eps) / (union + eps)
