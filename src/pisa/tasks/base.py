"""The base class of every post-training method that trains a video model's denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pisa.io.weights import check_fits
from pisa.models.base import VideoModel
from pisa.models.lora import has_lora
from pisa.tasks.latents import CaptionEncoder
from pisa.tasks.optim import GradientGuard, MuonAdamW, adamw, warmup_cosine
from pisa.tasks.rectified_flow import BatchSlice
from pisa.tasks.weights import leave_out_base, restore_base

_Part = TypeVar("_Part", bound=nn.Module)
PASSES = "denoiser_passes"  # entry of the metadata of weights
FORWARD_BACKWARD = 3  # forward passes: a backward pass counts as two


class Detached(Generic[_Part]):
    """Holds a module outside the owner's module tree and puts it in eval mode.

    Lightning then neither saves, optimises, reduces nor switches it to train mode. It doesn't
    move it either: call ``to`` once the device is known.
    """

    def __init__(self, part: _Part) -> None:
        self.part = part
        part.eval()

    def to(self, device: torch.device) -> None:
        self.part.to(device)


@dataclass(frozen=True)
class Optimisation:
    """Settings of AdamW and its schedule; counts are optimiser steps.

    Args:
        lr: learning rate.
        weight_decay: release: 0.
        eps: release: 1e-15.
        warmup_steps: linear warm-up (release: 0).
        decay_steps: cosine decay to zero; None keeps the rate constant.
        muon: see ``MuonAdamW`` (release: AdamW alone).
    """

    lr: float
    weight_decay: float = 0.0
    eps: float = 1e-15
    warmup_steps: int = 0
    decay_steps: int | None = None
    muon: bool = False


class DenoiserTask(pl.LightningModule):
    """Trains ``model.denoiser``; subclasses write ``training_step`` and ``validation_step``.

    Only the denoiser is registered with Lightning: codec and text encoder stay outside checkpoints,
    optimiser and gradient reduction, and always in eval mode. Steps with a gradient that is not
    finite are skipped and counted.

    Args:
        model: the denoiser is trained where its parameters require gradients.
        optimisation: see ``Optimisation``.
        caption: one prompt for every clip, encoded once; None takes each clip's own.
        seed: of every random draw in training.
        max_nonfinite: steps with a non-finite loss or gradient that are skipped before the run
            ends.
    """

    def __init__(
        self,
        model: VideoModel,
        optimisation: Optimisation,
        *,
        caption: str | None,
        seed: int,
        max_nonfinite: int,
    ) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        self.optimisation = optimisation
        self.seed = seed
        self.conditions = CaptionEncoder(model, caption)
        self.guard = GradientGuard(max_nonfinite, self.describe_nonfinite_step)
        self.validation_means = ValidationMeans()
        self.strict_loading = not has_lora(self.denoiser)  # their checkpoints hold no base model
        self._model = Detached(model)

    @property
    def model(self) -> VideoModel:
        return self._model.part

    @property
    def passes_per_clip(self) -> float:
        """Forward passes of the denoiser per clip of a training step; a backward counts as two.

        The unit in which methods are compared at equal compute. Teachers and codec are not in it.
        Here one velocity with its gradient; it depends on the method's settings alone, not on the
        model or the reward.
        """
        return FORWARD_BACKWARD

    @property
    def clipped_fraction(self) -> float:
        """Part of the steps so far whose gradient was clipped."""
        return self.guard.clipped_fraction

    def describe_nonfinite_step(self) -> str:
        """Called in a step that is skipped; a sentence for the error that may end the run."""
        return ""

    def step_stream(self) -> tuple[int | str, ...]:
        """The random stream of one optimiser step, the same on all ranks and in all micro-batches.

        It depends on nothing drawn before, so a resumed run continues exactly. Draws for a clip
        must be made for the whole global batch and cut, see ``BatchSlice``.
        """
        return self.seed, "train", self.global_step, 0, 0  # the zeros keep old runs' streams

    def batch_slice(self, size: int, batch_idx: int) -> BatchSlice:
        """The rows of this micro-batch in the step's global batch (see ``StepSampler``)."""
        ranks, micro_batches = self.trainer.world_size, self.trainer.accumulate_grad_batches
        place = batch_idx % micro_batches * ranks + self.global_rank
        return BatchSlice(place * size, size, size * ranks * micro_batches)

    def to_device(self) -> None:
        """Move what Lightning does not know of to the task's device."""
        self._model.to(self.device)

    def prepare_data(self) -> None:
        """On one process per node: embed the caption where the model keeps embeddings on disk."""
        self.conditions.prepare()

    def on_fit_start(self) -> None:
        self.to_device()
        self.denoiser.train()

    def on_validation_start(self) -> None:
        self.to_device()

    def on_validation_epoch_end(self) -> None:
        self.validation_means.log(self)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings = self.optimisation
        optimizer: torch.optim.Optimizer
        if settings.muon:
            optimizer = MuonAdamW(self.denoiser, settings.lr, eps=settings.eps)
        else:
            optimizer = adamw(
                self.denoiser, settings.lr, weight_decay=settings.weight_decay, eps=settings.eps
            )
        schedule = warmup_cosine(optimizer, settings.warmup_steps, settings.decay_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Log the gradient norm, drop a non-finite gradient, clip the rest as the trainer says.

        Called by Lightning once per optimiser step, after gradients are reduced over ranks.

        Raises:
            PisaError: too many non-finite gradients, see ``GradientGuard``.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        by_norm = gradient_clip_algorithm in (None, "norm")
        norm = self.guard.check(parameters, gradient_clip_val if by_norm else None)
        if torch.isfinite(norm):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        # Logged for a skipped step too; its row would otherwise show the norm of the step before.
        self.log("train/gradient_norm", norm)
        self.log("train/clipped_fraction", self.guard.clipped_fraction)
        self.log("train/nonfinite_steps", float(self.guard.nonfinite))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the guard's counts, and drop the frozen base of a LoRA run."""
        checkpoint["gradient_guard"] = self.guard.state_dict()
        leave_out_base(checkpoint, self.denoiser)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Undo ``on_save_checkpoint`` before Lightning loads the weights.

        Raises:
            PisaError: the checkpoint is of another network.
        """
        restore_base(checkpoint, self.denoiser)
        check_fits(self.state_dict(), checkpoint["state_dict"], "the checkpoint")
        self.guard.load_state_dict(checkpoint["gradient_guard"])


def passes_metadata(task: DenoiserTask) -> dict[str, str]:
    """The forward passes of the denoiser that training took so far, for the weights' metadata."""
    trainer = task.trainer
    clips = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if clips is None:
        return {}
    steps = trainer.global_step * trainer.accumulate_grad_batches
    return {PASSES: str(round(task.passes_per_clip * clips * trainer.world_size * steps))}


def denoiser_of(task: pl.LightningModule) -> nn.Module:
    """The network a task trains; any task with a ``denoiser`` will do."""
    return cast(nn.Module, task.denoiser)


def model_of(task: pl.LightningModule) -> VideoModel:
    """The video model of a task, with the denoiser as it is now."""
    return cast(VideoModel, task.model)


class ValidationMeans:
    """Means over the clips of all validation loaders under one name.

    Lightning's own reduction would split them into ``val/loss/dataloader_idx_0`` and so on.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._clips = 0

    def add(self, values: Mapping[str, Tensor], clips: int) -> None:
        """Means of one batch and how many clips they are over."""
        for name, value in values.items():
            self._totals[name] = self._totals.get(name, 0.0) + value.detach() * clips
        self._clips += clips

    def log(self, task: pl.LightningModule) -> None:
        """Log what was added (mean over ranks) and forget it."""
        means = {name: total / self._clips for name, total in self._totals.items()}
        task.log_dict(means, sync_dist=True, prog_bar=True)
        self._totals, self._clips = {}, 0
