"""The base class of methods that train a denoiser on the reward of the clips it generates."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.samplers import Euler, Sampler
from pisa.models.base import VideoModel
from pisa.models.generate import decode_in_chunks, generate_latents
from pisa.ops.seeding import clip_noise, generator_of
from pisa.ranges import Count, FrameCount, NonNegative, Positive, Seed, WholeNumber
from pisa.rewards.base import Reward, rewards_of
from pisa.rewards.mix import RewardTerms
from pisa.tasks.base import DenoiserTask, Detached, Optimisation
from pisa.tasks.latents import LatentEncoder
from pisa.tasks.rectified_flow import BatchSlice
from pisa.types import Batch


@dataclass(frozen=True)
class Rollout:
    """How clips are generated in training.

    Args:
        num_steps: steps of the sampler (release: 10).
        guidance: classifier-free guidance scale (release: 4.0).
        num_frames: frames to generate; None takes the clips' number.
        decode_chunk: clips decoded at a time; None is all.
    """

    num_steps: int
    guidance: float
    num_frames: int | None = None
    decode_chunk: int | None = None


class ChainStart(NamedTuple):
    """The start of a sampler's chain."""

    noise: Float[Tensor, "b c f i j"]
    first_latent: Float[Tensor, "b c 1 i j"] | None = None  # None: encoded when it is needed


class RewardTask(DenoiserTask):
    """Generates clips from first frames and rewards them; subclasses write ``training_step``.

    The reward and its teachers stay outside checkpoints, as codec and text encoder do.

    Args:
        model: see ``VideoModel``, with the weights of stage 1.
        reward: maps (generated ``[B, 3, T, H, W]``, batch) to ``[B]``, higher is better.
        lr: of AdamW (paper, for ORO: 1e-6 segmentation and depth, 1e-5 flow).
        num_steps, guidance, num_frames, decode_chunk: see ``Rollout``.
        caption: of every clip; None takes each clip's own.
        weight_decay, eps, warmup_steps, decay_steps: see ``Optimisation``.
        max_nonfinite: steps with a non-finite reward or gradient that are skipped before the run
            ends.
    """

    def __init__(
        self,
        model: VideoModel,
        reward: Reward,
        lr: Positive = 1e-5,
        num_steps: Count = 10,
        guidance: NonNegative = 4.0,
        num_frames: FrameCount | None = None,
        caption: str | None = "a video of an object dropping",
        decode_chunk: Count | None = None,
        weight_decay: NonNegative = 0.0,
        eps: Positive = 1e-15,
        warmup_steps: WholeNumber = 0,
        decay_steps: Count | None = None,
        seed: Seed = 0,
        max_nonfinite: WholeNumber = 10,
    ) -> None:
        super().__init__(
            model,
            Optimisation(lr, weight_decay, eps, warmup_steps, decay_steps),
            caption=caption,
            seed=seed,
            max_nonfinite=max_nonfinite,
        )
        self.save_hyperparameters(ignore=["model", "reward", "gradient_window"])
        self.rollout = Rollout(num_steps, guidance, num_frames, decode_chunk)
        self.latents = LatentEncoder(model, "alone", cache=False)
        self.reward_terms = RewardTerms(reward)
        self._reward = Detached(reward.requires_grad_(False))

    @property
    def reward(self) -> Reward:
        return self._reward.part

    def to_device(self) -> None:
        super().to_device()
        self._reward.to(self.device)

    @property
    def passes_per_velocity(self) -> int:
        """Forward passes of the denoiser for one guided velocity."""
        return 1 if self.rollout.guidance == 1.0 else 2

    @property
    def clips_per_first_frame(self) -> int:
        """How many clips a training step generates and rewards for each clip of its batch."""
        return 1

    @property
    @abstractmethod
    def passes_per_clip(self) -> float:
        """See ``DenoiserTask``."""

    @torch.no_grad()
    def validation_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Reward of clips generated from noise that belongs to the clip, so that epochs compare.

        Returns the clips and their rewards, for callbacks.
        """
        batch = batch.frames(slice(self.rollout.num_frames))
        noise = clip_noise(batch.names, self.seed, self.latent_shape(batch))
        streams = [(self.seed, "clip", name) for name in batch.names]
        start = ChainStart(noise, self.latents.first(batch.first_frame, streams))
        generated = self.generate(batch, start, Euler())
        reward = self.rewards(generated, batch)
        self.validation_means.add(self.reward_values("val", reward), len(batch))
        return {"generated": generated, "reward": reward}

    def start(
        self, batch: Batch, batch_idx: int
    ) -> tuple[Batch, ChainStart, BatchSlice, torch.Generator]:
        """The clips, the start of their chains, and the generator for further draws of the step.

        Further draws must be made for the global batch, too, see ``BatchSlice``.
        """
        stream, part = self.step_stream(), self.batch_slice(len(batch), batch_idx)
        generator = generator_of(*stream)
        batch = batch.frames(slice(self.rollout.num_frames))
        noise = torch.randn(part.total, *self.latent_shape(batch), generator=generator)
        rows = range(part.first, part.first + part.size)
        first = self.latents.first(batch.first_frame, [(*stream, row) for row in rows])
        return batch, ChainStart(part.cut(noise), first), part, generator

    def generate(
        self, batch: Batch, start: ChainStart, sampler: Sampler
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clips that continue the first frames of ``batch``, as long as its clips."""
        latents = self.sample(batch, start, sampler)
        return decode_in_chunks(
            self.model, latents, batch.video.shape[2], self.rollout.decode_chunk
        )

    def sample(
        self, batch: Batch, start: ChainStart, sampler: Sampler
    ) -> Float[Tensor, "b c f i j"]:
        """The latents of ``generate``, before they are decoded."""
        return generate_latents(
            self.model,
            batch.first_frame,
            self.conditions(batch.captions, batch.video.device),
            num_frames=batch.video.shape[2],
            fps_hz=batch.fps_hz,
            num_steps=self.rollout.num_steps,
            guidance=self.rollout.guidance,
            noise=start.noise.to(batch.video),
            sampler=sampler,
            first_latent=start.first_latent,
        )

    def rewards(self, generated: Tensor, batch: Batch) -> Float[Tensor, " b"]:
        """One number per clip; NaN, without asking a teacher, for clips that are not finite."""
        if torch.isfinite(generated).all():
            return rewards_of(self.reward, generated, batch)
        self.reward_terms.clear(generated.device)
        return torch.full((len(batch),), float("nan"), device=generated.device)

    def latent_shape(self, batch: Batch) -> tuple[int, int, int, int]:
        frames, height, width = batch.video.shape[2:]
        return self.model.latent_shape(frames, height, width)

    def reward_values(self, stage: str, reward: Tensor) -> dict[str, Tensor]:
        means = self.reward_terms.means
        parts = {f"{stage}/reward_{name}": mean for name, mean in means.items()}
        return parts | {f"{stage}/reward": reward.mean()}
