"""Stage 2: object reward optimisation (paper Section 4.3, Eq. 1-2, Appendix C).

Deviations from the paper's release: captions are not dropped while generating (the release keeps
the caption dropout of train mode on), and decoded clips reach the reward in [-1, 1] as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.noise_levels import logit_normal_noise_level
from pisa.diffusion.replay import OtherSteps, Replay
from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.ranges import Count, NonNegative
from pisa.rewards.base import Reward, reward_name
from pisa.tasks.base import FORWARD_BACKWARD
from pisa.tasks.gradient_steps import (
    FullGradient,
    GradientWindow,
    StepGradients,
    step_gradients,
)
from pisa.tasks.nonfinite_dump import GeneratedClips, dump_nonfinite
from pisa.tasks.rectified_flow import BatchSlice, RectifiedFlowLoss
from pisa.tasks.reference import RecordedChain, Reference
from pisa.tasks.reward_task import ChainStart, RewardTask
from pisa.types import Batch


class ORO(RewardTask):
    """Generates a clip from the first frame and ascends the reward through the sampler.

    Loss = -mean(reward). Gradient accumulation is the trainer's (``accumulate_grad_batches``),
    gradient clipping too. Clips of a step with a non-finite reward or gradient are kept in the
    folder ``nonfinite`` of the trainer's root directory.

    Args:
        gradient_window: steps that carry gradient (paper: all).
        checkpoint_steps: recompute every denoising step in the backward pass to save memory.
        replay: sample without gradient and recompute the steps of the window in the backward pass
            (``pisa.diffusion.replay``); ``checkpoint_steps`` has then no effect.
        other_steps: with ``replay``, what the other steps do to the gradient of earlier ones.
        psft_weight: weight of the stage 1 loss added as a regulariser (deviation; paper: 0).
        copies: clips generated of each first frame, for a reward of distributions (paper: 1).
        reference_weight: weight of the penalty against drifting from the weights ORO starts from,
            see ``Reference`` (deviation; paper: 0).
    The rest: see ``RewardTask``.

    Raises:
        PisaError: the gradient window needs ``replay``, or a weight is negative.
    """

    def __init__(
        self,
        model: VideoModel,
        reward: Reward,
        gradient_window: GradientWindow | None = None,
        checkpoint_steps: bool = True,
        replay: bool = False,
        other_steps: OtherSteps = "constant",
        psft_weight: NonNegative = 0.0,
        reference_weight: NonNegative = 0.0,
        copies: Count = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, reward, **options)
        self.gradient_window = gradient_window or FullGradient()
        self.checkpoint_steps, self.replay, self.other_steps = checkpoint_steps, replay, other_steps
        if self.gradient_window.equal_norm and not replay:
            name = type(self.gradient_window).__name__
            raise PisaError(f"gradient_window {name} needs oro.task.replay=true")
        if not (psft_weight >= 0 and reference_weight >= 0):
            raise PisaError("psft_weight and reference_weight must be 0 or more")
        self.psft_weight, self.reference_weight, self.copies = psft_weight, reference_weight, copies
        self.psft_loss = RectifiedFlowLoss(model, logit_normal_noise_level)
        self.reference = Reference(model) if reference_weight else None
        self._recent: list[GeneratedClips] = []  # since the last optimiser step

    def to_device(self) -> None:
        super().to_device()
        if self.reference is not None:
            self.reference.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        batch, start, part, generator = self.start(batch, batch_idx)
        chosen = self.gradient_window(self.rollout.num_steps, generator)
        chain = RecordedChain(self.sampler(chosen), record=self.reference is not None)
        generated = self.generate(batch, start, chain)
        reward = self.rewards(generated, batch)
        self._remember(batch, generated, reward, chosen, batch_idx, part)
        reward = without_failed_teacher(reward, generated)
        if not reward.requires_grad:
            raise PisaError(
                f"reward {reward_name(self.reward)} passes no gradient to the generated clip"
            )
        values = self.reward_values("train", reward.detach())
        self.log_dict(values, prog_bar=True, batch_size=len(batch), sync_dist=True)
        loss = -reward.mean()
        loss = self._with_psft_loss(loss, batch, part, generator)
        loss = self._with_reference(loss, chain, batch, generator)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss if torch.isfinite(loss) else loss * float("nan")  # every gradient is then NaN

    def start(
        self, batch: Batch, batch_idx: int
    ) -> tuple[Batch, ChainStart, BatchSlice, torch.Generator]:
        """As ``RewardTask.start``, with ``copies`` rows of each clip beside one another."""
        copied = torch.arange(len(batch)).repeat_interleave(self.copies)
        return super().start(batch.clips(copied), batch_idx)

    @property
    def clips_per_first_frame(self) -> int:
        return self.copies

    @property
    def passes_per_clip(self) -> float:
        """See ``DenoiserTask``; a gradient window's steps count as it chooses them on average."""
        num_steps = self.rollout.num_steps
        chosen = len(self.gradient_window(num_steps, torch.Generator().manual_seed(0)))
        recomputed = chosen if self.replay or self.checkpoint_steps else 0
        chain = num_steps + recomputed + 2 * chosen
        penalty = 0 if self.reference is None else 1 + FORWARD_BACKWARD
        psft = FORWARD_BACKWARD if self.psft_weight else 0
        return self.copies * (self.passes_per_velocity * (chain + penalty) + psft)

    def step_gradients(self, batch: Batch, batch_idx: int) -> StepGradients:
        """Contribution of every denoising step to the gradient of -mean(reward) for this batch.

        Of all steps, whatever the window, from the noise that ``training_step`` takes for the same
        arguments; leaves ``.grad`` alone.
        """
        batch, start, _, _ = self.start(batch, batch_idx)

        def loss(replay: Replay) -> Tensor:
            generated = self.generate(batch, start, Euler(replay=replay))
            return -without_failed_teacher(self.rewards(generated, batch), generated).mean()

        return step_gradients(loss, [p for p in self.denoiser.parameters() if p.requires_grad])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._recent.clear()

    def describe_nonfinite_step(self) -> str:
        folder = Path(self.trainer.default_root_dir) / "nonfinite"
        dump_nonfinite(folder, self._recent)
        return f"What was generated is in {folder}"

    def sampler(self, grad_steps: Sequence[int]) -> Euler:
        """The sampler of a training step, with gradient in these steps."""
        if not self.replay:
            return Euler(self.checkpoint_steps, grad_steps)
        replay = Replay(
            tuple(self.denoiser.parameters()),
            self.other_steps,
            equal_norm=self.gradient_window.equal_norm,
        )
        return Euler(grad_steps=grad_steps, replay=replay)

    def _remember(
        self,
        batch: Batch,
        generated: Tensor,
        reward: Tensor,
        grad_steps: Sequence[int],
        batch_idx: int,
        part: BatchSlice,
    ) -> None:
        self._recent.append(
            GeneratedClips(
                names=batch.names,
                first_frame=batch.first_frame,
                video=generated.detach(),
                reward=reward.detach(),
                reward_name=reward_name(self.reward),
                grad_steps=tuple(grad_steps),
                seed=self.seed,
                step=self.global_step,
                micro_batch=batch_idx % self.trainer.accumulate_grad_batches,
                rank=self.global_rank,
                rows=part,
            )
        )

    def _with_psft_loss(
        self, loss: Tensor, batch: Batch, part: BatchSlice, generator: torch.Generator
    ) -> Tensor:
        if self.psft_weight == 0:
            return loss
        condition = self.conditions(batch.captions, batch.video.device)
        latents = self.latents(batch, self.step_stream(), part.first)
        psft = self.psft_loss(batch, latents, condition, generator, part).mean()
        self.log("train/psft_loss", psft.detach(), batch_size=len(batch), sync_dist=True)
        return loss + self.psft_weight * psft

    def _with_reference(
        self, loss: Tensor, chain: RecordedChain, batch: Batch, generator: torch.Generator
    ) -> Tensor:
        if self.reference is None:
            return loss
        step = int(torch.randint(self.rollout.num_steps, (), generator=generator))
        penalty = self.reference.penalty(chain, step).mean()
        self.log("train/reference", penalty.detach(), batch_size=len(batch), sync_dist=True)
        return loss + self.reference_weight * penalty


def without_failed_teacher(
    reward: Float[Tensor, " b"], generated: Float[Tensor, "b 3 t h w"]
) -> Float[Tensor, " b"]:
    """``reward``, or NaN with NaN gradients of ``generated`` where one of it is not finite."""
    if torch.isfinite(reward).all():
        return reward
    # Backward must not enter the teacher: some kernels take a NaN position for an address (torch's
    # grid_sample ends in a segmentation fault). The sampler stays, so that all ranks reduce.
    return generated.flatten(1).sum(dim=1) * float("nan")
