"""What PSFT and ORO share as functions: random streams, optimiser, and the gradient guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pisa.io.weights import check_same_network
from pisa.models.base import VideoModel
from pisa.tasks.optim import GradientGuard, adamw, warmup_cosine
from pisa.tasks.rectified_flow import BatchSlice
from pisa.tasks.weights import leave_out_base, restore_base

_Part = TypeVar("_Part")


class Detached(Generic[_Part]):
    """Holds a part outside the owner's module tree and puts it in eval mode.

    Lightning then neither saves, optimises, reduces nor switches it to train mode. It doesn't
    move it either: call ``to`` once the device is known.
    """

    def __init__(self, part: _Part) -> None:
        self.part = part
        if isinstance(part, nn.Module):
            part.eval()

    def to(self, device: torch.device) -> None:
        if isinstance(self.part, nn.Module):
            self.part.to(device)


def step_stream(task: pl.LightningModule) -> tuple[int | str, ...]:
    """The random stream of one optimiser step, the same on all ranks and in all micro-batches.

    It depends on nothing drawn before, so a resumed run continues exactly. What is drawn for a
    clip must be drawn for the whole global batch and cut, see ``BatchSlice``.
    """
    return task.hparams["seed"], "train", task.global_step, 0, 0


def slice_of(task: pl.LightningModule, size: int, batch_idx: int) -> BatchSlice:
    """The rows of this micro-batch in the optimiser step's global batch (see ``StepSampler``)."""
    ranks, micro_batches = task.trainer.world_size, task.trainer.accumulate_grad_batches
    place = batch_idx % micro_batches * ranks + task.global_rank
    return BatchSlice(place * size, size, size * ranks * micro_batches)


def denoiser_of(task: pl.LightningModule) -> nn.Module:
    """What a task trains; every task with a ``denoiser`` will do."""
    return cast(nn.Module, task.denoiser)


def model_of(task: pl.LightningModule) -> VideoModel:
    """The video model of a task, with the denoiser as it stands now."""
    return cast(VideoModel, task.model)


def configure_adamw(task: pl.LightningModule) -> OptimizerLRSchedulerConfig:
    """AdamW over ``task.denoiser`` with the schedule, from the task's hyper-parameters."""
    values = task.hparams
    optimizer = adamw(
        denoiser_of(task), values["lr"], weight_decay=values["weight_decay"], eps=values["eps"]
    )
    scheduler = warmup_cosine(optimizer, values["warmup_steps"], values["decay_steps"])
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }


def to_checkpoint(task: pl.LightningModule, guard: GradientGuard, state: dict[str, Any]) -> None:
    """Add the guard's counts, and drop the frozen base of a LoRA run."""
    state["gradient_guard"] = guard.state_dict()
    leave_out_base(state, denoiser_of(task))


def from_checkpoint(task: pl.LightningModule, guard: GradientGuard, state: dict[str, Any]) -> None:
    """Undo ``to_checkpoint`` before Lightning loads ``state``.

    Raises:
        PisaError: the checkpoint is of another network.
    """
    restore_base(state, denoiser_of(task))
    check_same_network(task.state_dict(), state["state_dict"], "the checkpoint")
    guard.load_state_dict(state["gradient_guard"])


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


def guard_gradients(
    task: pl.LightningModule,
    guard: GradientGuard,
    optimizer: torch.optim.Optimizer,
    clip_value: float | None,
    algorithm: str | None,
) -> None:
    """Log the gradient norm, drop a non-finite gradient, clip the rest as the trainer says.

    Called by Lightning once per optimiser step, after gradients are reduced over ranks.

    Raises:
        PisaError: too many non-finite gradients, see ``GradientGuard``.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = guard.check(parameters, clip_value if algorithm in (None, "norm") else None)
    if torch.isfinite(norm):
        task.clip_gradients(optimizer, clip_value, algorithm)
    # also of a skipped step, in whose row the norm of the one before would stand otherwise
    task.log("train/gradient_norm", norm)
    task.log("train/clipped_fraction", guard.clipped_fraction)
    task.log("train/nonfinite_steps", float(guard.nonfinite))
