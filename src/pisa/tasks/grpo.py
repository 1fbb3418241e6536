"""Flow-GRPO: policy gradient over a stochastic sampler (arXiv:2505.05470)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.diffusion.path import velocity_loss
from pisa.diffusion.samplers import Ancestral, Velocity, ancestral_step
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.models.generate import model_velocity
from pisa.ranges import Count, Fraction, NonNegative, Positive
from pisa.rewards.base import Reward
from pisa.tasks.base import FORWARD_BACKWARD
from pisa.tasks.group import GroupTask
from pisa.tasks.rectified_flow import BatchSlice
from pisa.tasks.reference import RecordedChain, Reference
from pisa.types import Batch

CHAINS_KEY = "grpo_chains"  # checkpoint entry


@dataclass(frozen=True)
class Chains:
    """Chains of a stochastic sampler, how good their clips are, and what made them."""

    points: Float[Tensor, "n m c f i j"]  # n - 1 steps lead from one to the next
    levels: Float[Tensor, " n"]
    log_probs: Float[Tensor, "k m"] | None  # of the steps with noise, by the weights that drew them
    advantages: Float[Tensor, " m"]
    first_frame: Float[Tensor, "m 3 h w"]
    captions: list[str]
    num_frames: int
    fps_hz: float


class FlowGRPO(GroupTask):
    """Group advantages, ratio clipping and a KL penalty on the steps of a stochastic sampler.

    Loss = mean over clips and steps of ``-min(q A, clip(q, 1 - clip, 1 + clip) A) + kl_weight KL``
    with the advantage A of a clip in its group and the ratio q of its step's probability to that
    when it was drawn. A step is Gaussian, so log-probability and KL follow from its mean and its
    standard deviation; both are means over the latents, as in the authors' code.

    Deviations: a step is that of ``Ancestral``, exact on the path at any width, instead of an Euler
    step of the authors' stochastic equation, which with few steps leaves noise in the clip. The
    last step has no noise and so no gradient.

    Args:
        eta: share of the noise that a step renews, see ``Ancestral``.
        clip: largest change of the ratio that still has a gradient.
        kl_weight: of the penalty towards the weights that training starts from.
        updates: optimiser steps on each group; the clips of the batches in between are not used.
    The rest: see ``GroupTask``.

    Raises:
        PisaError: several updates of a group with accumulated micro-batches.
    """

    def __init__(
        self,
        model: VideoModel,
        reward: Reward,
        eta: Fraction = 1.0,
        clip: Positive = 1e-3,
        kl_weight: NonNegative = 0.0,
        updates: Count = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, reward, **options)
        self.eta, self.clip, self.kl_weight, self.updates = eta, clip, kl_weight, updates
        self.reference = Reference(model) if kl_weight else None
        self._chains: Chains | None = None

    @property
    def passes_per_clip(self) -> float:
        steps = self.group_size * (self.rollout.num_steps - 1) * self.passes_per_velocity
        learn = steps * (FORWARD_BACKWARD + (self.reference is not None))
        return self.passes_to_draw / self.updates + learn

    def to_device(self) -> None:
        super().to_device()
        if self.reference is not None:
            self.reference.to(self.device)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.updates > 1 and self.trainer.accumulate_grad_batches > 1:
            raise PisaError("oro.task.updates > 1 needs trainer.accumulate_grad_batches=1")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        if self._chains is None or self.global_step % self.updates == 0:
            self._chains = self.draw_chains(batch, batch_idx)
        chains = self._chains
        velocity, given = self._velocity(chains)
        steps = list(self._steps(chains, velocity))
        after = chains.points[1:]
        now = torch.stack([_log_prob(after[n], mean, std, given) for n, mean, std in steps])
        if chains.log_probs is None:  # the weights are still those that drew the chains
            chains = self._chains = replace(chains, log_probs=now.detach())
        assert chains.log_probs is not None
        ratio = (now - chains.log_probs).exp()  # [k, m]
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * chains.advantages, clipped * chains.advantages)
        loss = -gain.mean()
        if self.reference is not None:
            with torch.no_grad(), self.reference.active():
                start = [mean for _, mean, _ in self._steps(chains, velocity)]
            kl = [
                -_log_prob(mean, other, std, given)
                for (_, mean, std), other in zip(steps, start, strict=True)
            ]
            loss = loss + self.kl_weight * torch.stack(kl).mean()
        change = (ratio.detach() - 1).abs().mean()
        self.log("train/ratio_change", change, batch_size=len(batch), sync_dist=True)
        return self.finish(loss, chains.advantages, len(batch))

    @torch.no_grad()
    def draw_chains(self, batch: Batch, batch_idx: int) -> Chains:
        """Generate, reward and remember the chains of a group of every clip."""
        recorded: list[RecordedChain] = []

        def sampler(part: BatchSlice, generator: torch.Generator) -> RecordedChain:
            def fresh(step: int) -> Tensor:
                shape = self.latent_shape(batch.frames(slice(self.rollout.num_frames)))
                noise = torch.randn(part.total, *shape, generator=generator)
                return part.cut(noise).to(self.device)

            recorded.append(RecordedChain(Ancestral(self.eta, fresh)))
            return recorded[0]

        group = self.draw_group(batch, batch_idx, sampler)
        chain = recorded[0]
        return Chains(
            points=torch.stack(chain.points),
            levels=chain.levels,
            log_probs=None,
            advantages=group.advantages().flatten(),
            first_frame=group.batch.first_frame,
            captions=list(group.batch.captions),
            num_frames=group.batch.video.shape[2],
            fps_hz=group.batch.fps_hz,
        )

    def _velocity(self, chains: Chains) -> tuple[Velocity, Bool[Tensor, "m f"]]:
        """The velocity that the chains follow, and their latent frames that are given clean."""
        device, frames = chains.first_frame.device, chains.num_frames
        prompt = self.conditions(chains.captions, device)
        prompt = self.model.with_first_frame(prompt, chains.first_frame, frames)
        guidance, null = self.rollout.guidance, None
        if guidance != 1.0:
            null = self.model.null_beside(prompt, chains.first_frame, frames)
        given = self.model.given_frames(chains.points[0])
        return model_velocity(self.model, prompt, given, chains.fps_hz, guidance, null), given

    def _steps(self, chains: Chains, velocity: Velocity) -> Iterator[tuple[int, Tensor, float]]:
        """Index, mean and standard deviation of the steps that have noise."""
        for step, (s, r) in enumerate(itertools.pairwise(chains.levels.tolist())):
            x = chains.points[step]
            if ancestral_step(x, x, s, r, self.eta)[1] > 0:
                u = velocity(x, x.new_full((len(x),), s, dtype=torch.float32))
                yield step, *ancestral_step(x, u.to(x.dtype), s, r, self.eta)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._chains is not None and self.updates > 1:
            checkpoint[CHAINS_KEY] = {f.name: getattr(self._chains, f.name) for f in fields(Chains)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if CHAINS_KEY in checkpoint:
            self._chains = Chains(**checkpoint[CHAINS_KEY])


def _log_prob(
    x: Float[Tensor, "m c f i j"],
    mean: Float[Tensor, "m c f i j"],
    std: float,
    given: Bool[Tensor, "m f"],
) -> Float[Tensor, " m"]:
    """Gaussian log-probability per latent, up to a constant, over frames that are not given."""
    return -velocity_loss(x, mean, given) / (2 * std**2)
