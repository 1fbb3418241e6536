"""Samplers: plain functions that carry gradient; callers who want none use ``torch.no_grad``.

They integrate ``dx / ds = u(x, s)`` from noise (s = 1) to a clip (s = 0). The scheduler's own
``step`` of diffusers is not used: it counts steps in hidden state, so a step cannot be recomputed
by activation checkpointing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pisa.diffusion.path import blend_clean
from pisa.diffusion.replay import Replay, Step, replay_chain

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``(x [B, C, F, h, w], s [B]) -> u [B, C, F, h, w]``."""


def sample_euler(
    velocity: Velocity,
    x: Float[Tensor, "b c f h w"],
    noise_levels: Float[Tensor, " n"],
    *,
    clean: Float[Tensor, "b c g h w"] | None = None,
    clean_frames: Bool[Tensor, "b f"] | None = None,
    checkpoint_steps: bool = False,
    grad_steps: Collection[int] | None = None,
    replay: Replay | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "b c f h w"]:
    """Euler steps along ``noise_levels`` (descending, n - 1 steps).

    Args:
        clean: latents of the frames given by ``clean_frames`` (g is F, or 1 for one latent that
            serves all of them); they are put back before every step and at the end.
        checkpoint_steps: keep only each step's input and recompute the velocity in backward.
        grad_steps: steps (0 is the noisiest) whose velocity carries gradient; None is all (the
            paper's ORO). In the others the velocity is a constant, so the gradient of earlier
            steps passes them unchanged (``replay`` can do otherwise).
        replay: run without gradient and compute the steps of ``grad_steps`` again in backward, one
            at a time; gradient reaches ``x`` and ``replay.parameters`` only.
        on_step: called with (step, x) after every step.

    Raises:
        ValueError: only one of ``clean`` and ``clean_frames``, or a step out of range.
    """
    if (clean is None) != (clean_frames is None):
        raise ValueError("clean and clean_frames go together")
    num_steps = noise_levels.shape[0] - 1
    chosen = frozenset(range(num_steps) if grad_steps is None else grad_steps)
    if any(not 0 <= step < num_steps for step in chosen):
        raise ValueError(f"grad_steps {sorted(chosen)} out of range for {num_steps} steps")
    levels = noise_levels.to(device=x.device, dtype=torch.float32)
    widths = noise_levels.diff().tolist()

    def euler_step(step: int, velocity: Velocity) -> Step:
        def advance(x: Tensor) -> Tensor:
            x = x + widths[step] * velocity(x, levels[step].expand(x.shape[0])).to(x.dtype)
            return restore_clean(x, clean, clean_frames)

        return advance

    x = restore_clean(x, clean, clean_frames)
    if replay is not None and torch.is_grad_enabled():
        steps = [euler_step(step, velocity) for step in range(num_steps)]
        return replay_chain(steps, x, chosen, replay, on_step)
    with_grad = partial(_recomputed, velocity) if checkpoint_steps else velocity
    for step in range(num_steps):
        x = euler_step(step, with_grad if step in chosen else partial(_constant, velocity))(x)
        if on_step is not None:
            on_step(step, x)
    return x


def sample_ancestral(
    velocity: Velocity,
    x: Float[Tensor, "b c f h w"],
    noise_levels: Float[Tensor, " n"],
    eta: float,
    draw: Callable[[int], Float[Tensor, "b c f h w"]],
    *,
    clean: Float[Tensor, "b c g h w"] | None = None,
    clean_frames: Bool[Tensor, "b f"] | None = None,
) -> Float[Tensor, "b c f h w"]:
    """A stochastic sampler: each step renews a part of the noise (DDIM, arXiv:2010.02502 Eq. 16).

    On the path ``(1 - s) x_0 + s noise`` the velocity tells both, ``x_0 = x - s u`` and
    ``noise = x + (1 - s) u``. The step to level r takes them and fresh noise,
    ``(1 - r) x_0 + sqrt(r^2 - g^2) noise + g fresh`` with ``g = eta (r / s) sqrt(s^2 - (1 - s)^2
    r^2 / (1 - r)^2)``.

    Args:
        eta: 0 is ``sample_euler``; 1 renews as much as the posterior of the forward process has.
        draw: fresh standard normal noise of a step (0 is the noisiest), in the shape of ``x``.
        clean, clean_frames: as in ``sample_euler``.

    Raises:
        ValueError: ``eta`` is not in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in 0..1, not {eta:g}")
    levels = noise_levels.to(device=x.device, dtype=torch.float32)
    x = restore_clean(x, clean, clean_frames)
    for step, (s, r) in enumerate(itertools.pairwise(noise_levels.tolist())):
        u = velocity(x, levels[step].expand(x.shape[0])).to(x.dtype)
        x0, noise = x - s * u, x + (1 - s) * u
        renewed = eta * _posterior_noise(s, r)
        kept = math.sqrt(max(0.0, r**2 - renewed**2))
        x = (1 - r) * x0 + kept * noise
        if renewed > 0:
            x = x + renewed * draw(step)
        x = restore_clean(x, clean, clean_frames)
    return x


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
    """Standard deviation at level r of the noise that neither ``x_0`` nor the state at s > r tell.

    At r = 1 or 0 that is nothing.
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


def restore_clean(x: Tensor, clean: Tensor | None, clean_frames: Tensor | None) -> Tensor:
    return x if clean is None or clean_frames is None else blend_clean(x, clean, clean_frames)
