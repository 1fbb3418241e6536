"""The rectified-flow training loss that PSFT minimises and ORO may mix in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.diffusion.noise_levels import shift_noise_level
from pisa.diffusion.path import blend_clean, interpolate, velocity_loss, velocity_target
from pisa.errors import check_choice
from pisa.models.base import VideoModel
from pisa.tasks.latents import object_coverage
from pisa.types import Batch, Condition

NoiseLevelSampler = Callable[[int, torch.Generator], Tensor]
"""``(batch_size, generator) -> [B]`` noise levels in [0, 1], before the shift."""
ObjectRegion = Literal["covered", "below"]
DISPLACEMENT_MARGIN = 3
DISPLACEMENT_SLACK_PX = 1.0
DISPLACEMENT_UNIT_PX = 8.0


@dataclass(frozen=True)
class BatchSlice:
    """The rows of the global batch of ``total`` clips that a micro-batch holds.

    Random numbers are drawn for the global batch and cut, so that a step is the same for any
    number of ranks and of accumulated micro-batches.
    """

    first: int
    size: int
    total: int

    def cut(self, drawn: Tensor) -> Tensor:
        return drawn[self.first : self.first + self.size]


class RectifiedFlowLoss:
    """Squared velocity error over un-conditioned latent frames, as Open-Sora v1.2 trains.

    Latent frame 0 is given clean and carries no loss, unless the model generates it too
    (``first_frame_in_latents``). ``object_weight`` multiplies the error in the latent positions of
    ``object_region`` (deviation; 1 is the paper):

    - "covered": where objects are now or were in frame 0. The weight depends on the clip's own
      outcome, so the velocity learnt is a weighted mean over the outcomes of a first frame.
    - "below": in frame 0's objects and in all rows under them, on every frame. The weight depends
      on the first frame alone, which leaves the minimum where it is: for learning distributions.

    ``motion_weight`` multiplies ``displacement_error`` of models that predict how far each pixel
    has come from frame 0; others have no such term (deviation; 0 is the paper).

    A caption is replaced by the null prompt with probability ``caption_dropout``.
    """

    def __init__(
        self,
        model: VideoModel,
        sample_noise_levels: NoiseLevelSampler,
        caption_dropout: float = 0.0,
        object_weight: float = 1.0,
        object_region: ObjectRegion = "covered",
        motion_weight: float = 0.0,
    ) -> None:
        check_choice("object_region", object_region, get_args(ObjectRegion))
        self.model = model
        self.sample_noise_levels = sample_noise_levels
        self.caption_dropout = caption_dropout
        self.object_weight = object_weight
        self.object_region = object_region
        self.motion_weight = motion_weight

    def __call__(
        self,
        batch: Batch,
        latents: Float[Tensor, "b c f i j"],
        condition: Condition,
        generator: torch.Generator,
        part: BatchSlice | None = None,
    ) -> Float[Tensor, " b"]:
        """Loss per clip. All draws come from the CPU ``generator``; see ``BatchSlice``."""
        size = len(batch)
        part = part or BatchSlice(0, size, size)
        frames, height, width = batch.video.shape[2:]
        shift = self.model.noise_schedule_shift(frames, height, width)
        level = part.cut(self.sample_noise_levels(part.total, generator))
        level = shift_noise_level(level, shift).to(latents)
        noise = torch.randn(part.total, *latents.shape[1:], generator=generator)
        noise = part.cut(noise).to(latents)
        dropped = torch.rand(part.total, generator=generator) < self.caption_dropout
        # of the global batch: a trained null prompt has gradient on all ranks or on none
        if dropped.any():
            null = self.model.null_condition(size)
            condition = drop_captions(condition, null, part.cut(dropped))
        condition = self.model.with_first_frame(condition, batch.first_frame, frames)
        clean = self.model.given_frames(latents)
        x = blend_clean(interpolate(latents, noise, level), latents, clean)
        target, weight = velocity_target(latents, noise), self.weight(batch, latents)
        predicted, displacement_px = self.model.velocity_and_displacement(
            x, level, condition, clean, fps_hz=batch.fps_hz
        )
        loss = velocity_loss(predicted, target, clean, weight)
        if self.motion_weight and displacement_px is not None:
            loss = loss + self.motion_weight * displacement_error(displacement_px, batch.masks)
        return loss

    def weight(self, batch: Batch, latents: Tensor) -> Float[Tensor, "b 1 f i j"]:
        """Weight of the error at every latent position: 1, or ``object_weight`` in the region."""
        frames, height, width = latents.shape[2:]
        if self.object_weight == 1.0:
            return torch.ones(len(batch), 1, frames, height, width, device=latents.device)
        covered = object_coverage(batch.masks, (frames, height, width))
        first = covered[:, :, :1]
        if self.object_region == "below":
            region = first.float().cummax(dim=-2).values.expand(covered.shape)
        else:
            region = (covered | first).float()  # where an object was must be emptied
        return 1.0 + (self.object_weight - 1.0) * region


def displacement_error(
    predicted_px: Float[Tensor, "b 2 t h w"], masks: Bool[Tensor, "b n t h w"]
) -> Float[Tensor, " b"]:
    """How far the predicted way back to frame 0 is from that of the objects' centroids.

    Mean over objects and their surroundings of ``DISPLACEMENT_MARGIN`` cells, which must move with
    the object so that its outline is not stretched; a cell is 2x2 pixels. In units of
    ``DISPLACEMENT_UNIT_PX``. Objects turn, and a centroid depends on what is hidden, so an error
    below ``DISPLACEMENT_SLACK_PX`` counts as none. Objects that are not visible in frame 0 are left
    out; 0 for a clip without others.
    """
    masks = masks & masks[:, :, :1].flatten(3).any(dim=3)[..., None, None]
    area = masks.sum(dim=(3, 4))
    y, x = (torch.arange(size, device=masks.device).float() for size in masks.shape[3:])
    at = torch.stack([masks.sum(dim=3).float() @ x, masks.sum(dim=4).float() @ y], dim=1)
    centroid = at / area[:, None].clamp(min=1)
    true_px = centroid[:, :, :, :1] - centroid  # [b, 2, n, t]
    frames = masks.flatten(0, 2)[:, None].float()
    cells = F.max_pool2d(frames, 2)
    side = 2 * DISPLACEMENT_MARGIN + 1
    near = F.max_pool2d(cells, (side, 1), 1, (DISPLACEMENT_MARGIN, 0))
    near = F.max_pool2d(near, (1, side), 1, (0, DISPLACEMENT_MARGIN))
    cells, near = (part.unflatten(0, masks.shape[:3])[:, :, :, 0] for part in (cells, near))
    weight = torch.where(cells.sum(dim=1, keepdim=True) > 0, cells, near)  # objects come first
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1)
    target = torch.einsum("bnthw,bcnt->bcthw", weight, true_px)
    predicted = F.avg_pool3d(predicted_px.float(), (1, 2, 2))
    distance = torch.linalg.vector_norm(predicted - target, dim=1)
    error = (distance - DISPLACEMENT_SLACK_PX).clamp(min=0) / DISPLACEMENT_UNIT_PX
    covered = weight.sum(dim=1)
    return (error * covered).sum(dim=(1, 2, 3)) / covered.sum(dim=(1, 2, 3)).clamp(min=1)


def drop_captions(condition: Condition, null: Condition, dropped: Bool[Tensor, " b"]) -> Condition:
    """``condition`` with the rows of ``dropped`` taken from the null prompt.

    A null row with an empty mask takes that of the caption it replaces (as Open-Sora trains).
    """
    if null.null is None and not dropped.any():
        return condition
    rows = dropped.to(condition.embedding.device)
    null_mask = torch.where(null.mask.any(dim=1, keepdim=True), null.mask, condition.mask)
    return Condition(
        torch.where(rows[:, None, None], null.embedding, condition.embedding),
        torch.where(rows[:, None], null_mask, condition.mask),
        None if null.null is None else rows & null.null,
    )
