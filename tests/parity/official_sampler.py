"""The sampler and the timesteps of the paper's release, quirks included, to compare ours with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.noise_levels import shift_noise_level


def official_timesteps(
    num_steps: int,
    num_frames: Float[Tensor, " b"],
    height_px: Float[Tensor, " b"],
    width_px: Float[Tensor, " b"],
) -> list[Float[Tensor, " b"]]:
    """Timesteps in [0, 1000] as the paper's release computes them, rounding included.

    The three sizes keep their dtype (the release passes bfloat16). In float32 small clips begin at
    1000.0001, which freezes the first step of ``sample_rflow_official``.
    """
    ratio = (height_px * width_px / 512**2).sqrt()
    latent_frames = num_frames if num_frames[0] == 1 else num_frames // 17 * 5
    ratio = ratio * latent_frames.sqrt()
    even = [(1.0 - i / num_steps) * 1000 for i in range(num_steps)]
    steps = [torch.full(num_frames.shape, t, device=num_frames.device) / 1000 for t in even]
    return [shift_noise_level(t, ratio) * 1000 for t in steps]


def sample_rflow_official(
    predict: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    z: Float[Tensor, "b c f h w"],
    timesteps: list[Float[Tensor, " b"]],
    guidance: float,
    mask: Float[Tensor, "b f"] | None = None,
    *,
    draw_noise: Callable[[Tensor], Tensor] = torch.randn_like,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "b c f h w"]:
    """The sampler of the paper's release (Open-Sora v1.2) with its quirks.

    ``predict(z [2B], t [2B] in [0, 1000], x_mask [2B, F])`` returns ``x_0 - noise`` (the opposite
    sign of this package), prompt rows first. ``mask`` is 1 for frames to make and 0 for given
    ones. Quirks: noise is drawn every step whether used or not; a first timestep above 1000
    freezes all frames for that step and noises them again in the next; the caption dropout of a
    model in train mode, which lives in ``predict``, stays on.
    """
    made = None if mask is None else mask == 1
    for step, t in enumerate(timesteps):
        z_before, active = z, None
        if mask is not None and made is not None:
            level = (t.float() / 1000)[:, None, None, None, None]
            noised = (1 - level) * z + level * draw_noise(z)
            active = mask * 1000 >= t[:, None]
            z = torch.where((active & ~made)[:, None, :, None, None], noised, z)
            made = active
        x_mask = None if active is None else active.repeat(2, 1)
        both = predict(torch.cat([z, z]), torch.cat([t, t]), x_mask)
        prompt, null = both.chunk(2)
        width = (t - timesteps[step + 1] if step + 1 < len(timesteps) else t) / 1000
        z = z + (null + guidance * (prompt - null)) * width[:, None, None, None, None]
        if active is not None:
            z = torch.where(active[:, None, :, None, None], z, z_before)
        if on_step is not None:
            on_step(step, z)
    return z
