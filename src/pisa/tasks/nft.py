"""DiffusionNFT: learn from good and bad finished samples, no sampler in training (2509.16117)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pisa.models.base import VideoModel
from pisa.ranges import Fraction, Positive
from pisa.rewards.base import Reward
from pisa.tasks.base import FORWARD_BACKWARD
from pisa.tasks.group import GroupTask
from pisa.tasks.reference import Snapshot
from pisa.types import Batch

OLD_KEY = "old_denoiser"  # checkpoint entry


class DiffusionNFT(GroupTask):
    """Loss = r ||v+ - v||^2 + (1 - r) ||v- - v||^2 on noised finished samples.

    v+ = (1 - beta) v_old + beta v_theta, v- = (1 + beta) v_old - beta v_theta, and r in [0, 1] is
    1/2 + 1/2 clip(advantage / 2, -1, 1), with the advantage in standard deviations of the group.
    The old weights generate the samples and follow the trained ones.

    Deviation: the reward is scaled by its group's spread, not by that of all prompts.

    Args:
        beta: strength of the guidance that is learned.
        old_decay: of the old weights towards the trained ones after each step; 0: on-policy.
    The rest: see ``GroupTask``.
    """

    def __init__(
        self,
        model: VideoModel,
        reward: Reward,
        beta: Positive = 1.0,
        old_decay: Fraction = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(model, reward, **options)
        self.beta, self.old_decay = beta, old_decay
        self.old = Snapshot(model)

    @property
    def passes_per_clip(self) -> float:
        return self.passes_to_draw + self.group_size * (1 + FORWARD_BACKWARD)

    def to_device(self) -> None:
        super().to_device()
        self.old.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean over ranks and accumulated micro-batches is that of the global batch."""
        with self.old.active():
            group = self.draw_group(batch, batch_idx)
        noised = self.noised(group.batch, group.latents, group.part, group.generator)
        velocity = noised.velocity(self.model)
        with torch.no_grad(), self.old.active():
            old = noised.velocity(self.model)
        better = noised.error(old + self.beta * (velocity - old))
        worse = noised.error(old - self.beta * (velocity - old))
        r = (0.5 + 0.5 * (group.advantages() / 2).clamp(-1, 1)).flatten().to(better)
        return self.finish((r * better + (1 - r) * worse).mean(), group.reward, len(batch))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """The old weights follow after each optimiser step."""
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self.old.follow(self.old_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[OLD_KEY] = self.old.denoiser.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.old.denoiser.load_state_dict(checkpoint[OLD_KEY])
