"""Samplers: objects of one signature, ``sample(velocity, x, levels, *, clean, on_step)``.

They integrate ``dx / ds = u(x, s)`` from noise (s = 1) to a clip (s = 0) and carry gradient;
callers who want none use ``torch.no_grad``. The scheduler's own ``step`` of diffusers is not used:
it counts steps in hidden state, so a step cannot be recomputed by activation checkpointing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pisa.diffusion.path import CleanFrames, restore_clean
from pisa.diffusion.replay import Replay, Step, replay_chain

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``(x [B, C, F, h, w], s [B]) -> u [B, C, F, h, w]``."""
OnStep = Callable[[int, Tensor], None]
"""Called with (step, x) after every step; 0 is the noisiest."""


class Sampler(Protocol):
    """Integrates a velocity along descending noise levels."""

    @property
    def straight_path_only(self) -> bool:
        """Whether it needs ``x_s = (1 - s) x_0 + s noise`` to hold exactly."""
        ...

    def sample(
        self,
        velocity: Velocity,
        x: Float[Tensor, "b c f h w"],
        levels: Float[Tensor, " n"],
        *,
        clean: CleanFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c f h w"]:
        """``x`` after n - 1 steps; clean frames are restored before each step and at the end."""
        ...


@dataclass(frozen=True)
class Euler:
    """Euler steps.

    Args:
        checkpoint: keep only each step's input and recompute the velocity in backward.
        grad_steps: steps (0 is the noisiest) whose velocity carries gradient; None is all (the
            paper's ORO). In the others the velocity is a constant, so the gradient of earlier
            steps passes them unchanged (``replay`` can do otherwise).
        replay: run without gradient and compute the steps of ``grad_steps`` again in backward, one
            at a time; gradient reaches ``x`` and ``replay.parameters`` only.
    """

    straight_path_only: ClassVar[bool] = False
    checkpoint: bool = False
    grad_steps: Collection[int] | None = None
    replay: Replay | None = None

    def sample(
        self,
        velocity: Velocity,
        x: Float[Tensor, "b c f h w"],
        levels: Float[Tensor, " n"],
        *,
        clean: CleanFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c f h w"]:
        """See ``Sampler``.

        Raises:
            ValueError: a step of ``grad_steps`` is out of range.
        """
        num_steps = levels.shape[0] - 1
        chosen = frozenset(range(num_steps) if self.grad_steps is None else self.grad_steps)
        if any(not 0 <= step < num_steps for step in chosen):
            raise ValueError(f"grad_steps {sorted(chosen)} out of range for {num_steps} steps")
        widths = levels.diff().tolist()
        levels = levels.to(device=x.device, dtype=torch.float32)

        def advance(step: int, velocity: Velocity, x: Tensor) -> Tensor:
            x = x + widths[step] * velocity(x, levels[step].expand(x.shape[0])).to(x.dtype)
            return restore_clean(x, clean)

        x = restore_clean(x, clean)
        if self.replay is not None and torch.is_grad_enabled():
            steps: list[Step] = [partial(advance, step, velocity) for step in range(num_steps)]
            return replay_chain(steps, x, chosen, self.replay, on_step)
        with_grad = partial(_recomputed, velocity) if self.checkpoint else velocity
        for step in range(num_steps):
            x = advance(step, with_grad if step in chosen else partial(_constant, velocity), x)
            if on_step is not None:
                on_step(step, x)
        return x


@dataclass(frozen=True)
class Ancestral:
    """A stochastic sampler: each step renews a part of the noise (DDIM, arXiv:2010.02502 Eq. 16).

    On the path ``(1 - s) x_0 + s noise`` the velocity gives both, ``x_0 = x - s u`` and
    ``noise = x + (1 - s) u``. The step to level r takes them and fresh noise,
    ``(1 - r) x_0 + sqrt(r^2 - g^2) noise + g fresh`` with ``g = eta (r / s) sqrt(s^2 - (1 - s)^2
    r^2 / (1 - r)^2)``.

    Args:
        eta: 0 is ``Euler``; 1 renews as much as the posterior of the forward process has.
        draw: fresh standard normal noise of a step (0 is the noisiest), in the shape of ``x``.

    Raises:
        ValueError: ``eta`` is not in [0, 1].
    """

    straight_path_only: ClassVar[bool] = True
    eta: float
    draw: Callable[[int], Float[Tensor, "b c f h w"]]

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in 0..1, not {self.eta:g}")

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
        pairs = itertools.pairwise(levels.tolist())
        levels = levels.to(device=x.device, dtype=torch.float32)
        x = restore_clean(x, clean)
        for step, (s, r) in enumerate(pairs):
            u = velocity(x, levels[step].expand(x.shape[0])).to(x.dtype)
            x, renewed = ancestral_step(x, u, s, r, self.eta)
            if renewed > 0:
                x = x + renewed * self.draw(step)
            x = restore_clean(x, clean)
            if on_step is not None:
                on_step(step, x)
        return x


def ancestral_step(
    x: Float[Tensor, "b c f h w"], u: Float[Tensor, "b c f h w"], s: float, r: float, eta: float
) -> tuple[Float[Tensor, "b c f h w"], float]:
    """Mean and standard deviation of a step of ``Ancestral`` from level s to level r."""
    x0, noise = x - s * u, x + (1 - s) * u
    renewed = eta * _posterior_noise(s, r)
    return (1 - r) * x0 + math.sqrt(max(0.0, r**2 - renewed**2)) * noise, renewed


def guided_velocity(velocity_both: Velocity, scale: float | Tensor) -> Velocity:
    """Classifier-free guidance, ``u_null + scale (u_prompt - u_null)`` (arXiv:2207.12598).

    ``velocity_both`` takes B rows that want the prompt or, for ``scale != 1``, 2 B rows of which
    the second half wants the null prompt. A tensor holds a scale per latent frame, [F, 1, 1].
    """
    if isinstance(scale, float) and scale == 1.0:
        return velocity_both

    def velocity(x: Tensor, s: Tensor) -> Tensor:
        both = velocity_both(torch.cat([x, x]), torch.cat([s, s]))
        prompt, null = both.chunk(2)
        return torch.lerp(null, prompt, scale.to(null) if isinstance(scale, Tensor) else scale)

    return velocity


def _posterior_noise(s: float, r: float) -> float:
    """Standard deviation of the noise at level r, given ``x_0`` and the state at level s > r.

    It is 0 at r = 1 and r = 0.
    """
    if not 0 < r < 1:
        return 0.0
    return r / s * math.sqrt(max(0.0, s**2 - ((1 - s) * r / (1 - r)) ** 2))


def _recomputed(velocity: Velocity, x: Tensor, s: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return velocity(x, s)
    return checkpoint(velocity, x, s, use_reentrant=False)


@torch.no_grad()
def _constant(velocity: Velocity, x: Tensor, s: Tensor) -> Tensor:
    return velocity(x, s)
