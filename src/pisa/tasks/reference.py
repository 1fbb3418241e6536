"""A penalty against drifting from the weights that ORO starts from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.path import CleanFrames, restore_clean, velocity_loss
from pisa.diffusion.samplers import OnStep, Sampler, Velocity
from pisa.models.base import VideoModel
from pisa.models.lora import adapters_off, has_lora


class RecordedChain:
    """A sampler that keeps, without gradient, the points of its last chain."""

    def __init__(self, sampler: Sampler, record: bool = True) -> None:
        self.sampler, self.record = sampler, record
        self.straight_path_only = sampler.straight_path_only
        self.points: list[Tensor] = []  # x before each step, and the end

    def sample(
        self,
        velocity: Velocity,
        x: Float[Tensor, "b c f h w"],
        levels: Float[Tensor, " n"],
        *,
        clean: CleanFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c f h w"]:
        """See ``Sampler``."""
        if not self.record:
            return self.sampler.sample(velocity, x, levels, clean=clean, on_step=on_step)
        self.velocity, self.levels, self.clean = velocity, levels, clean
        self.points = [restore_clean(x, clean).detach()]

        def keep(step: int, x: Tensor) -> None:
            self.points.append(x.detach())
            if on_step is not None:
                on_step(step, x)

        return self.sampler.sample(velocity, x, levels, clean=clean, on_step=keep)


class Snapshot:
    """A frozen copy of a model's denoiser, whole on every rank."""

    def __init__(self, model: VideoModel) -> None:
        self._model = model
        self.denoiser = copy.deepcopy(model.denoiser).requires_grad_(False).eval()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model with the denoiser of the snapshot within the block."""
        trained = self._model.denoiser
        self._model.denoiser = self.denoiser
        try:
            yield
        finally:
            self._model.denoiser = trained

    def to(self, device: torch.device) -> None:
        self.denoiser.to(device)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """``w <- decay w + (1 - decay) w_trained``."""
        for own, trained in zip(
            self.denoiser.parameters(), self._model.denoiser.parameters(), strict=True
        ):
            own.lerp_(trained.to(own), 1 - decay)


class Reference:
    """The model as it is now, to compare its velocity with later.

    With LoRA it is the model without adapters; else a frozen copy of the denoiser, whole on every
    rank, which takes the memory of its weights once more.
    """

    def __init__(self, model: VideoModel) -> None:
        self._model = model
        self._snapshot = None if has_lora(model.denoiser) else Snapshot(model)

    def to(self, device: torch.device) -> None:
        if self._snapshot is not None:
            self._snapshot.to(device)

    def penalty(self, chain: RecordedChain, step: int) -> Float[Tensor, " b"]:
        """Mean squared difference of the velocities at the point before ``step``, per clip.

        The point is a constant. For a chain with Gaussian noise in its steps this is, up to a
        weight of the step, the KL divergence to the reference's step (Flow-GRPO, arXiv:2505.05470);
        the mean over steps drawn at random stands for that of the chain.
        """
        x = chain.points[step]
        level = chain.levels[step].to(device=x.device, dtype=torch.float32).expand(len(x))
        velocity = chain.velocity(x, level)
        with torch.no_grad(), self.active():
            reference = chain.velocity(x, level)
        return velocity_loss(
            velocity, reference, None if chain.clean is None else chain.clean.frames
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model with the weights of the reference within the block."""
        if self._snapshot is None:
            with adapters_off(self._model.denoiser):
                yield
        else:
            with self._snapshot.active():
                yield
