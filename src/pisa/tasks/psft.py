"""Stage 1: physics supervised fine-tuning (paper Section 4.2), rectified flow on clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from pisa.diffusion.noise_levels import logit_normal_noise_level
from pisa.models.base import VideoModel
from pisa.models.lora import has_lora
from pisa.ops.seeding import generator_of
from pisa.tasks.base import (
    Detached,
    ValidationMeans,
    configure_adamw,
    from_checkpoint,
    guard_gradients,
    slice_of,
    step_stream,
    to_checkpoint,
)
from pisa.tasks.latents import CaptionEncoder, FirstFrame, LatentEncoder
from pisa.tasks.optim import GradientGuard
from pisa.tasks.rectified_flow import BatchSlice, NoiseLevelSampler, ObjectRegion, RectifiedFlowLoss
from pisa.types import Batch


class PSFT(pl.LightningModule):
    """Fine-tunes the denoiser of ``model`` on clips.

    Only ``model.denoiser`` is registered with Lightning: codec and text encoder stay outside
    checkpoints, optimiser and gradient reduction, and always in eval mode.

    Args:
        model: see ``VideoModel``; the denoiser is trained where its parameters require gradients.
        lr: of AdamW (release: 1e-4; paper: batch 128 clips).
        weight_decay: of AdamW (release: 0).
        eps: of AdamW (release: 1e-15).
        caption: one prompt for every clip, encoded once; None takes each clip's own.
        caption_dropout: probability of the null prompt per clip.
        first_frame: "clip" as the release, or "alone" as at inference.
        sample_noise_levels: draws levels before the shift (release: logit-normal).
        object_weight: weight of the latent positions of ``object_region`` (1: paper).
        object_region: "covered" or "below", see ``RectifiedFlowLoss``.
        warmup_steps: optimiser steps of linear warm-up (release: 0).
        decay_steps: optimiser steps of a cosine decay to zero; None keeps the rate constant.
        latent_cache: keep latents in memory by clip name, see ``LatentEncoder``.
        latent_cache_dir: keep latents on disk in this folder, see ``LatentStore``.
        compile: ``torch.compile`` the denoiser in place.
        seed: of noise, noise levels and caption dropout.
        max_nonfinite: steps with a non-finite gradient that are skipped before the run ends.
    """

    def __init__(
        self,
        model: VideoModel,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        eps: float = 1e-15,
        caption: str | None = "a video of an object dropping",
        caption_dropout: float = 0.1,
        first_frame: FirstFrame = "clip",
        sample_noise_levels: NoiseLevelSampler = logit_normal_noise_level,
        object_weight: float = 1.0,
        object_region: ObjectRegion = "covered",
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        latent_cache: bool = False,
        latent_cache_dir: Path | str | None = None,
        compile: bool = False,
        seed: int = 0,
        max_nonfinite: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["model", "sample_noise_levels", "latent_cache_dir"])
        self.denoiser = model.denoiser
        self._model = Detached(model)
        self._conditions = CaptionEncoder(model, caption)
        self._latents = LatentEncoder(model, first_frame, latent_cache, latent_cache_dir)
        self._loss = RectifiedFlowLoss(
            model, sample_noise_levels, caption_dropout, object_weight, object_region
        )
        self._validation_loss = RectifiedFlowLoss(model, sample_noise_levels)
        self._guard = GradientGuard(max_nonfinite)
        self._validation = ValidationMeans()
        self.strict_loading = not has_lora(self.denoiser)  # their checkpoints hold no base model
        if compile:
            self.denoiser.compile()

    @property
    def model(self) -> VideoModel:
        return self._model.part

    def prepare_data(self) -> None:
        """On one process per node: embed the caption where the model keeps embeddings on disk."""
        self._conditions.prepare()

    def on_fit_start(self) -> None:
        self._model.to(self.device)
        self.denoiser.train()

    def on_validation_start(self) -> None:
        self._model.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        share = slice_of(self, len(batch), batch_idx)
        loss = self._mean_loss(self._loss, batch, step_stream(self), share)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Unweighted loss at noise and levels that belong to the batch, so that epochs compare."""
        stream = (self.hparams["seed"], "validation", *batch.names)
        loss = self._mean_loss(self._validation_loss, batch, stream)
        self._validation.add({"val/loss": loss}, len(batch))

    def on_validation_epoch_end(self) -> None:
        self._validation.log(self)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return configure_adamw(self)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        guard_gradients(self, self._guard, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        to_checkpoint(self, self._guard, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        from_checkpoint(self, self._guard, checkpoint)

    def _mean_loss(
        self,
        loss: RectifiedFlowLoss,
        batch: Batch,
        stream: Sequence[int | str],
        share: BatchSlice | None = None,
    ) -> Tensor:
        condition = self._conditions(batch.captions, batch.video.device)
        latents = self._latents(batch, stream, share.first if share else 0)
        return loss(batch, latents, condition, generator_of(*stream), share).mean()
