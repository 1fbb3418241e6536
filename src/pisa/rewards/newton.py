"""A reward that needs no true clip: does the tracked object accelerate evenly until it lands?

After NewtonRewards (arXiv:2512.00425), with the tracker's soft mask in place of optical flow.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.perception.base import Tracker
from pisa.ranges import NonNegative
from pisa.rewards.base import Reward
from pisa.types import Batch

LANDED = 0.9  # of the fastest speed so far: an object that becomes slower has landed
JITTER_PX = 0.5  # per frame, of a tracked place
SHOWN_PX = 1.0  # a mask of fewer pixels has no place


class NewtonReward(Reward):
    """Minus the unevenness of the fall, minus what guards against ways around it; at most 0.

    The object's place is the centroid of its soft mask, prompted with the true first mask. Until it
    lands, its downward acceleration should be one constant. All terms are in pixels per frame^2 or
    shares:

    - evenness: mean distance of the acceleration from its mean, sideways acceleration included;
    - fall: by how much the mean acceleration stays below ``min_acceleration_px`` (an object that
      stands still accelerates evenly, too);
    - keep: mean share by which area and colour differ from frame 0 (an object that vanishes has no
      acceleration left to be wrong).

    Args:
        tracker: frozen teacher.
        min_acceleration_px: pixels per frame^2; 9.81 m/s^2 at the farthest distance of the scenes.
        fall_weight, keep_weight: of the guards; 0 shows what happens without.
    """

    def __init__(
        self,
        tracker: Tracker,
        min_acceleration_px: NonNegative = 1.0,
        fall_weight: NonNegative = 1.0,
        keep_weight: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.name = "newton"
        self.tracker = tracker
        self.min_acceleration_px = min_acceleration_px
        self.fall_weight, self.keep_weight = fall_weight, keep_weight

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        tracked = slice(-1, None)
        soft = self.tracker.segment(generated, batch.first_masks, tracked)[:, 0].sigmoid()
        place, area = centroids(soft)
        velocity = place.diff(dim=1)  # [b, t - 1, 2], x and y
        acceleration = velocity.diff(dim=1)
        weight = free_fall(velocity[..., 1].detach()).to(acceleration)[..., None]
        count = weight.sum(dim=1).clamp(min=1)
        mean = (weight * acceleration).sum(dim=1) / count
        aim = torch.stack([torch.zeros_like(mean[:, 0]), mean[:, 1]], dim=1)[:, None]
        uneven = ((weight * (acceleration - aim).abs()).sum(dim=1) / count).sum(dim=1)
        slack = (self.min_acceleration_px - mean[:, 1]).clamp(min=0)
        changed = (area / area[:, :1].clamp(min=SHOWN_PX) - 1).abs().mean(dim=1)
        changed = changed + _colour_change(generated, soft, area)
        return -(uneven + self.fall_weight * slack + self.keep_weight * changed)


def centroids(
    soft: Float[Tensor, "b t h w"],
) -> tuple[Float[Tensor, "b t 2"], Float[Tensor, "b t"]]:
    """Place (x, y) and area of soft masks, both in pixels."""
    area = soft.sum(dim=(2, 3))
    rows = torch.arange(soft.shape[2], device=soft.device, dtype=soft.dtype)
    columns = torch.arange(soft.shape[3], device=soft.device, dtype=soft.dtype)
    y = (soft.sum(dim=3) * rows).sum(dim=2) / area.clamp(min=SHOWN_PX)
    x = (soft.sum(dim=2) * columns).sum(dim=2) / area.clamp(min=SHOWN_PX)
    return torch.stack([x, y], dim=2), area


def free_fall(speed_px: Float[Tensor, "b u"]) -> Bool[Tensor, "b v"]:
    """Which of the u - 1 accelerations belong to the fall; ``speed_px`` is downward, per frame.

    All until the speed drops clearly below the fastest so far (by a tenth and by half a pixel, more
    than trackers jitter); at least the first.
    """
    fastest = speed_px.cummax(dim=1).values
    slower = speed_px[:, 1:] < LANDED * fastest[:, :-1] - JITTER_PX
    falling = ~slower.cummax(dim=1).values
    falling[:, 0] = True
    return falling


def _colour_change(
    video: Float[Tensor, "b 3 t h w"], soft: Float[Tensor, "b t h w"], area: Float[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Mean change of the object's mean colour since frame 0, as a share of the range -1 to 1."""
    total = (video * soft[:, None]).sum(dim=(3, 4))
    colour = total / area.clamp(min=SHOWN_PX)[:, None]
    return (colour - colour[:, :, :1]).abs().mean(dim=(1, 2)) / 2
