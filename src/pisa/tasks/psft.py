"""Stage 1: physics supervised fine-tuning (paper Section 4.2), rectified flow on clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pisa.diffusion.noise_levels import logit_normal_noise_level
from pisa.models.base import VideoModel
from pisa.ops.seeding import generator_of
from pisa.ranges import Count, Fraction, NonNegative, Positive, Seed, WholeNumber
from pisa.tasks.base import DenoiserTask, Optimisation
from pisa.tasks.latents import FirstFrame, LatentEncoder
from pisa.tasks.rectified_flow import BatchSlice, NoiseLevelSampler, ObjectRegion, RectifiedFlowLoss
from pisa.types import Batch


class PSFT(DenoiserTask):
    """Fine-tunes the denoiser of ``model`` on clips.

    Args:
        lr: of AdamW (release: 1e-4; paper: batch 128 clips).
        caption_dropout: probability of the null prompt per clip.
        first_frame: "clip" as the release, or "alone" as at inference.
        sample_noise_levels: draws levels before the shift (release: logit-normal).
        object_weight: weight of the latent positions of ``object_region`` (1: paper).
        object_region: "covered" or "below", see ``RectifiedFlowLoss``.
        motion_weight: weight of the displacement error, see ``RectifiedFlowLoss`` (0: paper).
        latent_cache: keep latents in memory by clip name, see ``LatentEncoder``.
        latent_cache_dir: keep latents on disk in this folder, see ``LatentStore``.
        compile: ``torch.compile`` the denoiser in place.
        muon: Muon on the hidden matrices, see ``MuonAdamW`` (paper: AdamW).
    The rest: see ``DenoiserTask`` and ``Optimisation``.
    """

    def __init__(
        self,
        model: VideoModel,
        lr: Positive = 1e-4,
        weight_decay: NonNegative = 0.0,
        eps: Positive = 1e-15,
        caption: str | None = "a video of an object dropping",
        caption_dropout: Fraction = 0.1,
        first_frame: FirstFrame = "clip",
        sample_noise_levels: NoiseLevelSampler = logit_normal_noise_level,
        object_weight: NonNegative = 1.0,
        object_region: ObjectRegion = "covered",
        motion_weight: NonNegative = 0.0,
        warmup_steps: WholeNumber = 0,
        decay_steps: Count | None = None,
        latent_cache: bool = False,
        latent_cache_dir: Path | str | None = None,
        compile: bool = False,
        muon: bool = False,
        seed: Seed = 0,
        max_nonfinite: WholeNumber = 10,
    ) -> None:
        super().__init__(
            model,
            Optimisation(lr, weight_decay, eps, warmup_steps, decay_steps, muon),
            caption=caption,
            seed=seed,
            max_nonfinite=max_nonfinite,
        )
        self.save_hyperparameters(ignore=["model", "sample_noise_levels", "latent_cache_dir"])
        self.latents = LatentEncoder(model, first_frame, latent_cache, latent_cache_dir)
        self.loss = RectifiedFlowLoss(
            model,
            sample_noise_levels,
            caption_dropout,
            object_weight,
            object_region,
            motion_weight,
        )
        self.validation_loss = RectifiedFlowLoss(model, sample_noise_levels)
        if compile:
            self.denoiser.compile()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        part = self.batch_slice(len(batch), batch_idx)
        loss = self.mean_loss(self.loss, batch, self.step_stream(), part)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Unweighted loss at noise and levels that belong to the batch, so that epochs compare."""
        stream: tuple[int | str, ...] = (self.seed, "validation", *batch.names)
        loss = self.mean_loss(self.validation_loss, batch, stream)
        self.validation_means.add({"val/loss": loss}, len(batch))

    def mean_loss(
        self,
        loss: RectifiedFlowLoss,
        batch: Batch,
        stream: Sequence[int | str],
        part: BatchSlice | None = None,
    ) -> Tensor:
        """Mean of ``loss`` over the batch, with all draws from the random stream ``stream``."""
        condition = self.conditions(batch.captions, batch.video.device)
        latents = self.latents(batch, stream, part.first if part else 0)
        return loss(batch, latents, condition, generator_of(*stream), part).mean()
