"""The rectified-flow path between a clip and noise, and the loss on its velocity.

``x_s = (1 - s) x_0 + s noise`` and ``u = dx_s / ds = noise - x_0`` with noise level ``s`` in
[0, 1], 1 being pure noise (Liu et al. 2022, arXiv:2209.03003). ``s`` is one number per clip
``[B]`` or one per latent frame ``[B, F]``; a frame that is given clean has ``s = 0``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def align_noise_level(s: Tensor, x: Tensor) -> Tensor:
    """Reshape ``s`` [B] or [B, F] so that it broadcasts against ``x`` [B, C, F, h, w].

    Raises:
        ValueError: ``s`` has another shape.
    """
    if s.shape == x.shape[:1]:
        return s.reshape(-1, *[1] * (x.ndim - 1))  # [B, 1, 1, 1, 1]
    if x.ndim >= 3 and s.shape == (x.shape[0], x.shape[2]):
        return s.reshape(x.shape[0], 1, x.shape[2], *[1] * (x.ndim - 3))  # [B, 1, F, 1, 1]
    raise ValueError(
        f"noise level {tuple(s.shape)} fits neither [B] nor [B, F] of {tuple(x.shape)}"
    )


def interpolate(
    x0: Float[Tensor, "b c f h w"],
    noise: Float[Tensor, "b c f h w"],
    s: Float[Tensor, " b"] | Float[Tensor, "b f"],
) -> Float[Tensor, "b c f h w"]:
    """The point ``(1 - s) x_0 + s noise`` of the path."""
    level = align_noise_level(s, x0).to(x0.dtype)
    return (1 - level) * x0 + level * noise


def velocity_target(
    x0: Float[Tensor, "b c f h w"], noise: Float[Tensor, "b c f h w"]
) -> Float[Tensor, "b c f h w"]:
    """``noise - x_0``, what a velocity model regresses on."""
    return noise - x0


def velocity_loss(
    predicted: Float[Tensor, "b c f h w"],
    target: Float[Tensor, "b c f h w"],
    clean_frames: Bool[Tensor, "b f"] | None = None,
    weight: Float[Tensor, "b 1 f h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Weighted mean squared error of each clip over the latent frames that are not given clean.

    Raises:
        ValueError: every frame of every clip is clean, so there is nothing to learn from.
    """
    error = (predicted.float() - target.float()).square()
    weight = torch.ones_like(error[:, :1]) if weight is None else weight
    if clean_frames is not None:
        if clean_frames.all():
            raise ValueError("all latent frames are clean: the velocity loss is empty")
        weight = weight * ~clean_frames[:, None, :, None, None]
    weight = weight.expand_as(error)
    total = weight.sum(dim=(1, 2, 3, 4)).clamp(min=1e-8)  # 0 for a clip whose frames are all clean
    return (weight * error).sum(dim=(1, 2, 3, 4)) / total


def blend_clean(
    x: Float[Tensor, "b c f h w"],
    clean: Float[Tensor, "b c g h w"],
    clean_frames: Bool[Tensor, "b f"],
) -> Float[Tensor, "b c f h w"]:
    """``x`` with ``clean_frames`` taken from ``clean``; g is F, or 1 for one frame."""
    return torch.where(clean_frames[:, None, :, None, None], clean.to(x.dtype), x)


class CleanFrames(NamedTuple):
    """Latent frames that are given clean, and which they are; g is F, or 1 for one frame."""

    latents: Float[Tensor, "b c g h w"]
    frames: Bool[Tensor, "b f"]


def restore_clean(
    x: Float[Tensor, "b c f h w"], clean: CleanFrames | None
) -> Float[Tensor, "b c f h w"]:
    """``x`` with the clean frames in their places again."""
    return x if clean is None else blend_clean(x, clean.latents, clean.frames)
