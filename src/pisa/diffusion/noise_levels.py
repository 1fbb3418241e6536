"""Noise levels: how they are drawn in training and spaced in sampling.

All are in [0, 1], 1 being pure noise.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def shift_noise_level(s: Float[Tensor, "*n"], r: float | Tensor) -> Float[Tensor, "*n"]:
    """``r s / (1 + (r - 1) s)``: keeps 0 and 1; r > 1 spends more on high noise.

    SD3, arXiv:2403.03206 Eq. 23; Open-Sora calls it the timestep transform.
    """
    return r * s / (1 + (r - 1) * s)


def uniform_noise_level(
    batch_size: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, " b"]:
    """Uniform draws, made on the generator's device and moved to ``device``."""
    draw = torch.rand(batch_size, generator=generator, device=_draw_device(generator, device))
    return draw.to(device)


def logit_normal_noise_level(
    batch_size: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> Float[Tensor, " b"]:
    """``sigmoid(mean + std n)`` with standard normal n: favours the middle (Open-Sora v1.2)."""
    normal = torch.randn(batch_size, generator=generator, device=_draw_device(generator, device))
    return torch.sigmoid(mean + std * normal).to(device)


def inference_noise_levels(num_steps: int, shift: float = 1.0) -> Float[Tensor, " n"]:
    """``num_steps + 1`` levels from 1 down to 0, evenly spaced, then shifted.

    The levels of diffusers' ``FlowMatchEulerDiscreteScheduler`` (a test compares them), computed
    here since that import takes seconds and its ``step`` keeps hidden state. Rounding above 1 is
    cut off; the paper's release keeps it.

    Raises:
        ValueError: no step, or a shift that is not positive.
    """
    if num_steps < 1 or not shift > 0:
        raise ValueError(f"needs num_steps >= 1 and shift > 0, got {num_steps} and {shift}")
    even = 1.0 - torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    return shift_noise_level(even, shift).clamp(0.0, 1.0).float()


def _draw_device(
    generator: torch.Generator | None, device: torch.device | str | None
) -> torch.device | str | None:
    return device if generator is None else generator.device
