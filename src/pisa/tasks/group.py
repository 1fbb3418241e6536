"""Methods that compare several generated clips of each first frame.

They need no gradient of the reward, and none of them differentiates through the sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pisa.diffusion.noise_levels import logit_normal_noise_level, shift_noise_level
from pisa.diffusion.path import blend_clean, interpolate, velocity_loss, velocity_target
from pisa.diffusion.samplers import Euler, Sampler
from pisa.models.base import VideoModel
from pisa.models.generate import decode_in_chunks
from pisa.ranges import Range
from pisa.rewards.base import Reward
from pisa.tasks.rectified_flow import BatchSlice
from pisa.tasks.reward_task import RewardTask
from pisa.types import Batch, Condition

GroupSize = Annotated[int, Range(low=2)]  # one clip leaves nothing to compare


@dataclass(frozen=True)
class Group:
    """``n`` generated clips of each of ``b`` first frames; rows of one first frame are adjacent."""

    batch: Batch  # every clip n times
    latents: Float[Tensor, "m c f i j"]  # m = b n
    reward: Float[Tensor, "b n"]
    part: BatchSlice  # of the m rows in the global batch
    generator: torch.Generator  # for further draws of the step

    def advantages(self) -> Float[Tensor, "b n"]:
        """Rewards minus their group's mean, in units of its standard deviation; 0 if all equal."""
        centred = self.reward - self.reward.mean(dim=1, keepdim=True)
        spread = centred.square().mean(dim=1, keepdim=True).sqrt()
        return torch.where(spread > 0, centred / spread.clamp(min=1e-8), torch.zeros_like(centred))

    def choose(self, which: Int[Tensor, " b"]) -> tuple[Batch, Tensor, BatchSlice]:
        """One clip of each first frame: clips, latents, and their rows in the global batch."""
        n = self.reward.shape[1]
        rows = torch.arange(len(which)) * n + which.cpu()
        part = BatchSlice(self.part.first // n, self.part.size // n, self.part.total // n)
        return self.batch.clips(rows), self.latents[rows], part


@dataclass(frozen=True)
class Noised:
    """Clips at random levels of the path to noise, and what their velocity is there."""

    x: Float[Tensor, "b c f i j"]
    level: Float[Tensor, " b"]
    target: Float[Tensor, "b c f i j"]
    clean: Bool[Tensor, "b f"]
    condition: Condition
    fps_hz: float

    def velocity(self, model: VideoModel) -> Float[Tensor, "b c f i j"]:
        return model.velocity(self.x, self.level, self.condition, self.clean, fps_hz=self.fps_hz)

    def error(self, velocity: Float[Tensor, "b c f i j"]) -> Float[Tensor, " b"]:
        """Mean squared error of each clip over the frames that are not given."""
        return velocity_loss(velocity, self.target, self.clean)


class GroupTask(RewardTask):
    """Draws ``group_size`` clips of each first frame and rewards them, without gradient.

    The rest: see ``RewardTask``.
    """

    def __init__(
        self, model: VideoModel, reward: Reward, group_size: GroupSize = 4, **options: Any
    ) -> None:
        super().__init__(model, reward, **options)
        self.group_size = group_size

    @property
    def clips_per_first_frame(self) -> int:
        return self.group_size

    @property
    def passes_to_draw(self) -> int:
        """Forward passes of the denoiser to generate the group of one first frame."""
        return self.group_size * self.rollout.num_steps * self.passes_per_velocity

    @torch.no_grad()
    def draw_group(
        self,
        batch: Batch,
        batch_idx: int,
        sampler_of: Callable[[BatchSlice, torch.Generator], Sampler] | None = None,
    ) -> Group:
        """Generate and reward the clips of a training step, and log the rewards.

        ``sampler_of`` gets the rows in the global batch and a generator for the sampler's noise.
        """
        n = self.group_size
        batch = batch.clips(torch.arange(len(batch)).repeat_interleave(n))
        batch, start, part, generator = self.start(batch, batch_idx)
        sampler = Euler() if sampler_of is None else sampler_of(part, generator)
        latents = self.sample(batch, start, sampler)
        length = batch.video.shape[2]
        generated = decode_in_chunks(self.model, latents, length, self.rollout.decode_chunk)
        reward = self.rewards(generated, batch)
        values = self.reward_values("train", reward)
        groups = reward.view(-1, n)
        values |= {"train/reward_spread": (groups.amax(dim=1) - groups.amin(dim=1)).mean()}
        self.log_dict(values, prog_bar=True, batch_size=len(groups), sync_dist=True)
        return Group(batch, latents, groups, part, generator)

    def noised(
        self, batch: Batch, latents: Tensor, part: BatchSlice, generator: torch.Generator
    ) -> Noised:
        """The clips on their way to noise, at levels drawn as in ``RectifiedFlowLoss``."""
        frames, height, width = batch.video.shape[2:]
        shift = self.model.noise_schedule_shift(frames, height, width)
        level = shift_noise_level(part.cut(logit_normal_noise_level(part.total, generator)), shift)
        noise = torch.randn(part.total, *latents.shape[1:], generator=generator)
        level, noise = level.to(latents), part.cut(noise).to(latents)
        condition = self.conditions(batch.captions, batch.video.device)
        condition = self.model.with_first_frame(condition, batch.first_frame, frames)
        clean = self.model.given_frames(latents)
        x = blend_clean(interpolate(latents, noise, level), latents, clean)
        target = velocity_target(latents, noise)
        return Noised(x, level, target, clean, condition, batch.fps_hz)

    def finish(
        self, loss: Float[Tensor, ""], rewards: Tensor, batch_size: int
    ) -> Float[Tensor, ""]:
        """Log the loss; NaN, so that the step is skipped, where a reward is not finite."""
        if not torch.isfinite(rewards).all():
            loss = loss * float("nan")
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch_size, sync_dist=True)
        return loss
