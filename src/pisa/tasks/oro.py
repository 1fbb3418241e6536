"""Stage 2: object reward optimisation (paper Section 4.3, Eq. 1-2, Appendix C).

Deviations from the paper's release: captions are not dropped while generating (the release keeps
the caption dropout of train mode on), and decoded clips reach the reward in [-1, 1] as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from pisa.diffusion.noise_levels import logit_normal_noise_level
from pisa.diffusion.replay import OtherSteps, Replay
from pisa.models.base import VideoModel
from pisa.models.lora import has_lora
from pisa.ops.seeding import generator_of
from pisa.rewards.base import Reward, reward_name, rewards_of
from pisa.rewards.mix import RewardTerms
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
from pisa.tasks.gradient_steps import FullGradient, GradientWindow, StepGradients, step_gradients
from pisa.tasks.latents import CaptionEncoder, LatentEncoder
from pisa.tasks.nonfinite_dump import GeneratedClips, dump_nonfinite
from pisa.tasks.optim import GradientGuard
from pisa.tasks.rectified_flow import BatchSlice, RectifiedFlowLoss
from pisa.tasks.rollout import ChainStart, Rollout
from pisa.types import Batch, PisaError


class ORO(pl.LightningModule):
    """Generates a clip from the first frame and ascends the reward through the sampler.

    Loss = -mean(reward). As in ``PSFT`` only the denoiser is registered with Lightning; the reward
    and its teachers stay outside checkpoints. Gradient accumulation is the trainer's
    (``accumulate_grad_batches``), gradient clipping too.

    Args:
        model: see ``VideoModel``, with the weights of stage 1.
        reward: maps (generated ``[B, 3, T, H, W]``, batch) to ``[B]``, higher is better.
        lr: of AdamW (paper: 1e-6 segmentation and depth, 1e-5 flow).
        num_steps: Euler steps of the sampler (release: 10).
        guidance: classifier-free guidance scale (release: 4.0).
        num_frames: frames to generate; None takes the clips' number.
        caption: one prompt for every clip; None takes each clip's own.
        gradient_window: steps that carry gradient (paper: all).
        checkpoint_steps: recompute every denoising step in the backward pass to save memory.
        replay: sample without gradient and recompute the steps of the window in the backward pass
            (``pisa.diffusion.replay``); ``checkpoint_steps`` has then no effect.
        other_steps: with ``replay``, what the other steps do to the gradient of earlier ones.
        decode_chunk: clips decoded at a time; None is all.
        psft_weight: weight of the stage 1 loss added as a regulariser (deviation; paper: 0).
        max_nonfinite: steps with a non-finite reward or gradient that are skipped before the
            run ends; what they generated is kept in the folder ``nonfinite`` of the trainer's
            root directory.
    The rest: see ``PSFT``.
    """

    def __init__(
        self,
        model: VideoModel,
        reward: Reward,
        lr: float = 1e-5,
        num_steps: int = 10,
        guidance: float = 4.0,
        num_frames: int | None = None,
        caption: str | None = "a video of an object dropping",
        gradient_window: GradientWindow | None = None,
        checkpoint_steps: bool = True,
        replay: bool = False,
        other_steps: OtherSteps = "constant",
        decode_chunk: int | None = None,
        psft_weight: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-15,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        seed: int = 0,
        max_nonfinite: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["model", "reward", "gradient_window"])
        self.denoiser = model.denoiser
        self._model = Detached(model)
        self._reward = Detached(reward.requires_grad_(False))
        self._conditions = CaptionEncoder(model, caption)
        self._latents = LatentEncoder(model, "alone", cache=False)
        self._generate = Rollout(
            model,
            self._conditions,
            self._latents,
            num_steps,
            guidance,
            checkpoint_steps,
            decode_chunk,
        )
        self._regulariser = RectifiedFlowLoss(model, logit_normal_noise_level)
        self._window = gradient_window or FullGradient()
        self._terms = RewardTerms(reward)
        self._guard = GradientGuard(max_nonfinite, self._dump_nonfinite)
        self._recent: list[GeneratedClips] = []  # since the last optimiser step
        self._validation = ValidationMeans()
        self.strict_loading = not has_lora(self.denoiser)  # their checkpoints hold no base model

    @property
    def model(self) -> VideoModel:
        return self._model.part

    @property
    def reward(self) -> Reward:
        return self._reward.part

    @property
    def reward_terms(self) -> RewardTerms:
        return self._terms

    @property
    def clipped_fraction(self) -> float:
        """Part of the steps so far whose gradient was clipped."""
        return self._guard.clipped_fraction

    def on_fit_start(self) -> None:
        self._to_device()
        self.denoiser.train()

    def on_validation_start(self) -> None:
        self._to_device()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        batch, start, share, generator = self._start(batch, batch_idx)
        window = self._window(self.hparams["num_steps"], generator)
        generated = self._generate(batch, start, window, self._replay())
        reward = self._rewards(generated, batch)
        self._remember(batch, generated, reward, window, batch_idx)
        reward = without_failed_teacher(reward, generated)
        if not reward.requires_grad:
            raise PisaError(
                f"reward {reward_name(self.reward)} passes no gradient to the generated clip"
            )
        values = self._reward_values("train", reward.detach())
        self.log_dict(values, prog_bar=True, batch_size=len(batch), sync_dist=True)
        loss = self._regularised(-reward.mean(), batch, share, generator)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss if torch.isfinite(loss) else loss * float("nan")  # every gradient is then NaN

    def step_gradients(self, batch: Batch, batch_idx: int) -> StepGradients:
        """What every denoising step contributes to the gradient of -mean(reward) for this batch.

        Of all steps, whatever the window, from the noise that ``training_step`` takes for the same
        arguments; leaves ``.grad`` alone.
        """
        batch, start, _, _ = self._start(batch, batch_idx)
        steps = range(self.hparams["num_steps"])

        def loss(replay: Replay) -> Tensor:
            generated = self._generate(batch, start, steps, replay)
            return -without_failed_teacher(self._rewards(generated, batch), generated).mean()

        trained = [p for p in self.denoiser.parameters() if p.requires_grad]
        return step_gradients(loss, trained)

    @torch.no_grad()
    def validation_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Reward of clips generated from noise that belongs to the clip, so that epochs compare.

        Returns the clips and their rewards, for callbacks.
        """
        batch = batch.frames(slice(self.hparams["num_frames"]))
        start = self._generate.start_of_clips(batch, self.hparams["seed"])
        generated = self._generate(batch, start, [])
        reward = self._rewards(generated, batch)
        self._validation.add(self._reward_values("val", reward), len(batch))
        return {"generated": generated, "reward": reward}

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
        self._recent.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        to_checkpoint(self, self._guard, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        from_checkpoint(self, self._guard, checkpoint)

    def _start(
        self, batch: Batch, batch_idx: int
    ) -> tuple[Batch, ChainStart, BatchSlice, torch.Generator]:
        """The clips, the start of their chains, and the generator for further draws of the step.

        Further draws are to be made for the global batch, too, see ``BatchSlice``.
        """
        stream, share = step_stream(self), slice_of(self, len(batch), batch_idx)
        generator = generator_of(*stream)
        batch = batch.frames(slice(self.hparams["num_frames"]))
        start = self._generate.start(batch, share, stream, generator)
        return batch, start, share, generator

    def _replay(self) -> Replay | None:
        if not self.hparams["replay"]:
            return None
        return Replay(tuple(self.denoiser.parameters()), self.hparams["other_steps"])

    def _rewards(self, generated: Tensor, batch: Batch) -> Float[Tensor, " b"]:
        """One number per clip; NaN, without asking a teacher, for clips that are not finite."""
        if torch.isfinite(generated).all():
            return rewards_of(self.reward, generated, batch)
        self._terms.clear(generated.device)
        return torch.full((len(batch),), float("nan"), device=generated.device)

    def _remember(
        self,
        batch: Batch,
        generated: Tensor,
        reward: Tensor,
        window: Sequence[int],
        batch_idx: int,
    ) -> None:
        self._recent.append(
            GeneratedClips(
                batch.names,
                batch.first_frame,
                generated.detach(),
                reward.detach(),
                reward_name(self.reward),
                tuple(window),
                self.hparams["seed"],
                self.global_step,
                batch_idx % self.trainer.accumulate_grad_batches,
                self.global_rank,
                slice_of(self, len(batch), batch_idx),
            )
        )

    def _dump_nonfinite(self) -> str:
        folder = Path(self.trainer.default_root_dir) / "nonfinite"
        dump_nonfinite(folder, self._recent)
        return f"What was generated is in {folder}"

    def _regularised(
        self, loss: Tensor, batch: Batch, share: BatchSlice, generator: torch.Generator
    ) -> Tensor:
        weight = self.hparams["psft_weight"]
        if weight == 0.0:
            return loss
        condition = self._conditions(batch.captions, batch.video.device)
        latents = self._latents(batch, step_stream(self), share.first)
        psft = self._regulariser(batch, latents, condition, generator, share).mean()
        self.log("train/psft_loss", psft.detach(), batch_size=len(batch), sync_dist=True)
        return loss + weight * psft

    def _reward_values(self, stage: str, reward: Tensor) -> dict[str, Tensor]:
        parts = {f"{stage}/reward_{name}": mean for name, mean in self._terms.means.items()}
        return parts | {f"{stage}/reward": reward.mean()}

    def _to_device(self) -> None:
        self._model.to(self.device)
        self._reward.to(self.device)


def without_failed_teacher(
    reward: Float[Tensor, " b"], generated: Float[Tensor, "b 3 t h w"]
) -> Float[Tensor, " b"]:
    """``reward``, or NaN with NaN gradients of ``generated`` where one of it is not finite."""
    if torch.isfinite(reward).all():
        return reward
    # Backward must not enter the teacher: some kernels take a NaN position for an address (torch's
    # grid_sample ends in a segmentation fault). The sampler stays, so that all ranks reduce.
    return generated.flatten(1).sum(dim=1) * float("nan")
