"""A reward for distributions: the energy score of the tracked way of several clips.

One first frame has many true outcomes, p(t | y) in the paper's Section 5.3. A reward that compares
one clip with one truth is best served by the middle of the outcomes, every time. The energy score
(Gneiting and Raftery 2007, "Strictly Proper Scoring Rules", Section 4.2) is best on average where
the generated clips are distributed as the true ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.perception.base import Tracker
from pisa.rewards.base import Reward
from pisa.rewards.newton import centroids
from pisa.types import Batch


class EnergyReward(Reward):
    """Minus the energy score of the dropping object's way, in pixels.

    Clips of a batch with equal first frames are samples of one distribution, and so are their true
    clips; ORO generates several clips of each with ``copies``, the group methods with
    ``group_size``. A clip alone in its batch is rewarded with minus its distance from the truth.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.name = "energy"
        self.tracker = tracker

    def forward(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        soft = self.tracker.segment(generated, batch.first_masks, slice(-1, None))[:, 0].sigmoid()
        way, _ = centroids(soft)
        true_way, area = centroids(batch.masks[:, -1].to(soft))
        first = batch.first_frame.flatten(1)
        same = (first[:, None] == first[None]).all(dim=2)
        return -energy_scores(way, true_way, area > 0, same)


def energy_scores(
    way: Float[Tensor, "b t 2"],
    true_way: Float[Tensor, "b t 2"],
    seen: Bool[Tensor, "b t"],
    same: Bool[Tensor, "b b"],
) -> Float[Tensor, " b"]:
    """For each sample, its mean distance from the truths less half that from the other samples.

    The distance of two ways is the root of their mean squared distance over frames; frames in which
    a truth is not ``seen`` are left out of the distances from it. ``same`` tells which rows belong
    to one distribution. The mean over a distribution's n samples is the unbiased energy score.
    """
    to_truth = _distances(way, true_way, seen)
    between = _distances(way, way, torch.ones_like(seen))
    weight = same.to(way)
    others = weight - torch.eye(len(way), device=way.device)
    spread = (others * between).sum(dim=1) / others.sum(dim=1).clamp(min=1)
    return (weight * to_truth).sum(dim=1) / weight.sum(dim=1) - spread / 2


def _distances(
    a: Float[Tensor, "b t 2"], b: Float[Tensor, "c t 2"], seen: Bool[Tensor, "c t"]
) -> Float[Tensor, "b c"]:
    counted = seen.to(a)[None, :, :, None]
    scale = counted.sum(dim=(2, 3)).clamp(min=1).sqrt()
    return torch.linalg.vector_norm((a[:, None] - b[None]) * counted, dim=(2, 3)) / scale
