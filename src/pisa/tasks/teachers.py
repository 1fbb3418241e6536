"""Training of the small embedded teachers on simulated truth: tracker, optical flow, depth."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.perception.augment import augmented
from pisa.perception.embedded_depth import EmbeddedDepth
from pisa.perception.embedded_flow import EmbeddedFlow
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.rewards.flow import moving
from pisa.tasks.base import Optimisation
from pisa.tasks.optim import warmup_cosine
from pisa.types import Batch


class TeacherTask(pl.LightningModule):
    """AdamW with warm-up and cosine decay over ``total_steps``, and augmented batches."""

    def __init__(
        self,
        network: torch.nn.Module,
        lr: float = 2e-3,
        total_steps: int = 2000,
        warmup_steps: int = 50,
        weight_decay: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["network"])
        self.optimisation = Optimisation(
            lr, weight_decay, warmup_steps=warmup_steps, decay_steps=total_steps
        )
        self.seed = seed
        self.network = network.to(memory_format=torch.channels_last)  # about twice as fast on CPU

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 10**6 + self.global_step)
        loss = self.loss(batch, generator)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Training loss of a batch, augmented with ``generator``."""

    def configure_optimizers(self) -> Any:
        settings = self.optimisation
        optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.lr, weight_decay=settings.weight_decay
        )
        schedule = warmup_cosine(optimizer, settings.warmup_steps, settings.decay_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class TrackerTask(TeacherTask):
    """Binary cross-entropy + Dice of one object per clip in ``num_frames`` random later frames.

    The object is drawn among those that frame 0 shows. In a quarter of the steps the tracker isn't
    told where the other objects are.
    """

    network: EmbeddedTracker

    def __init__(self, network: EmbeddedTracker, *, num_frames: int = 2, **kwargs: Any) -> None:
        super().__init__(network, **kwargs)
        self.num_frames = num_frames

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        later = 1 + torch.randperm(batch.video.shape[2] - 1, generator=generator)
        frames = torch.cat([torch.zeros(1, dtype=torch.long), later[: self.num_frames]])
        batch = augmented(batch.frames(frames), generator)
        masks = _random_object_last(batch.masks, generator)
        if torch.rand((), generator=generator) < 0.25:
            masks = masks[:, -1:]
        logits = self.network.segment(batch.video, masks[:, :, 0], slice(-1, None))
        return mask_loss(logits[:, :, 1:], masks[:, -1:, 1:])

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits = self.network.segment(batch.video, batch.first_masks)
        iou = tracked_iou(logits > 0, batch.masks)
        self.log("val/mask_iou", iou.nanmean(), prog_bar=True, batch_size=len(batch))
        self.log("val/mask_iou_dropping", iou[:, -1].nanmean(), batch_size=len(batch))


class FlowTask(TeacherTask):
    """End-point error at all levels, moving pixels weighted up by ``moving_weight``.

    ``num_pairs`` frame pairs in a row are taken from each clip.
    """

    network: EmbeddedFlow

    def __init__(
        self,
        network: EmbeddedFlow,
        *,
        num_pairs: int = 4,
        moving_weight: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        self.num_pairs = num_pairs
        self.moving_weight = moving_weight

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        frames = min(self.num_pairs + 1, batch.video.shape[2])
        start = _random_start(batch, frames, generator)
        batch = augmented(batch.frames(slice(start, start + frames)), generator)
        truth = _required(batch.flow_px, "flow_px")
        weight = 1 + self.moving_weight * moving(truth)
        weight = weight / weight.mean()
        levels = self.network.flow_levels(batch.video)
        errors = [(weight * robust_error(level, truth)).mean() for level in levels]
        return errors[-1] + 0.5 * errors[-2] + 0.25 * errors[-3]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        truth = _required(batch.flow_px, "flow_px")
        error = (self.network.flow(batch.video) - truth).norm(dim=1)
        where = moving(truth)
        self.log("val/epe", error.mean(), prog_bar=True, batch_size=len(batch))
        self.log("val/epe_moving", error[where].mean(), prog_bar=True, batch_size=len(batch))
        self.log("val/epe_zero", truth.norm(dim=1).mean(), batch_size=len(batch))
        self.log("val/epe_moving_zero", truth.norm(dim=1)[where].mean(), batch_size=len(batch))


class DepthTask(TeacherTask):
    """Absolute error of inverse depth (1/m) and of its gradients, object pixels weighted up.

    ``num_frames`` frames are drawn from each clip.
    """

    network: EmbeddedDepth

    def __init__(
        self,
        network: EmbeddedDepth,
        *,
        num_frames: int = 4,
        object_weight: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(network, **kwargs)
        self.num_frames = num_frames
        self.object_weight = object_weight

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        batch = augmented(batch, generator)
        pick = torch.randperm(batch.video.shape[2], generator=generator)[: self.num_frames]
        truth = 1 / _required(batch.depth_m, "depth_m")[:, pick]
        error = self.network.depth(batch.video[:, :, pick]) - truth
        objects = batch.masks[:, :, pick].any(dim=1).to(error)
        weight = 1 + self.object_weight * F.max_pool2d(objects, 3, stride=1, padding=1)
        edges = sum(_weighted_edges(error, weight, axis) for axis in (2, 3))
        return (weight * error.abs()).mean() + 0.5 * edges

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        truth = 1 / _required(batch.depth_m, "depth_m")
        error = relative_error(self.network.depth(batch.video), truth)
        objects = batch.masks.any(dim=1)
        self.log("val/depth_abs_rel", error.mean(), prog_bar=True, batch_size=len(batch))
        self.log("val/depth_abs_rel_object", error[objects].mean(), batch_size=len(batch))


def mask_loss(
    logits: Float[Tensor, "b n t h w"], masks: Bool[Tensor, "b n t h w"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy, pixels near the object weighted up, plus soft Dice per frame."""
    truth = masks.to(logits)
    near = F.max_pool2d(truth.flatten(0, 1), 7, stride=1, padding=3).view_as(truth)
    weight = 1 + 10 * near
    cross = F.binary_cross_entropy_with_logits(logits, truth, weight) / weight.mean()
    soft = logits.sigmoid()
    overlap = (soft * truth).sum(dim=(-2, -1))
    dice = (2 * overlap + 1) / (soft.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1)) + 1)
    return cross + (1 - dice).mean()


def tracked_iou(
    found: Bool[Tensor, "b n t h w"], truth: Bool[Tensor, "b n t h w"]
) -> Float[Tensor, "b n t"]:
    """IoU per object and frame; NaN where the truth is empty, was at first, and in frame 0."""
    union = (found | truth).sum(dim=(-2, -1))
    iou = (found & truth).sum(dim=(-2, -1)) / union.clamp(min=1)
    seen = truth.flatten(3).any(dim=3)
    valid = seen & seen[:, :, :1]
    valid[:, :, 0] = False
    return iou.masked_fill(~valid, float("nan"))


def robust_error(
    flow: Float[Tensor, "b 2 u h w"], truth: Float[Tensor, "b 2 u h w"]
) -> Float[Tensor, "b u h w"]:
    """End-point error with a rounded tip, so that its gradient is finite at zero."""
    return ((flow - truth).square().sum(dim=1) + 1e-4).sqrt()


def relative_error(
    inverse: Float[Tensor, "b t h w"], truth: Float[Tensor, "b t h w"]
) -> Float[Tensor, "b t h w"]:
    """|aligned - truth| / truth of inverse depth, aligned per frame in scale and shift."""
    x, y = inverse.flatten(2), truth.flatten(2)
    dx, dy = x - x.mean(dim=2, keepdim=True), y - y.mean(dim=2, keepdim=True)
    scale = (dx * dy).sum(2, keepdim=True) / dx.square().sum(2, keepdim=True).clamp(min=1e-12)
    aligned = scale * dx + y.mean(dim=2, keepdim=True)
    return ((aligned - y).abs() / y).view_as(truth)


def _random_start(batch: Batch, length: int, generator: torch.Generator) -> int:
    return int(torch.randint(batch.video.shape[2] - length + 1, (), generator=generator))


def _random_object_last(
    masks: Bool[Tensor, "b n t h w"], generator: torch.Generator
) -> Bool[Tensor, "b n t h w"]:
    """A random object of frame 0 swapped with the last; the dropping one has triple weight."""
    weight = masks[:, :, 0].flatten(2).any(dim=2).float().cpu() + 1e-6
    weight[:, -1] *= 3
    index = torch.multinomial(weight, 1, generator=generator)[:, 0]
    row = torch.arange(len(masks))
    swapped = masks.clone()
    swapped[row, index] = masks[:, -1]
    swapped[:, -1] = masks[row, index]
    return swapped


def _required(truth: Tensor | None, name: str) -> Tensor:
    if truth is None:
        raise PisaError(f"these clips have no {name}: simulate them with their truth (truth.npz)")
    return truth


def _weighted_edges(error: Tensor, weight: Tensor, axis: int) -> Tensor:
    return (weight.narrow(axis, 1, error.shape[axis] - 1) * error.diff(dim=axis).abs()).mean()
