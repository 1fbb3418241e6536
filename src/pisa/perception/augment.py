"""Random changes of training clips that make teachers fit for generated, imperfect clips."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pisa.types import Batch


def degrade(
    video: Float[Tensor, "b 3 t h w"],
    generator: torch.Generator | None = None,
    *,
    max_blur_px: float = 1.0,
    max_noise: float = 0.06,
    max_fading: float = 0.3,
) -> Float[Tensor, "b 3 t h w"]:
    """Per clip, at random strength: ghosting, blur, Gaussian noise, gain and offset of colour.

    Half of the clips get no ghosting and no blur. ``max_blur_px`` is a standard deviation.
    """

    def random(low: float, high: float) -> Tensor:
        return (
            torch.rand(len(video), 1, 1, 1, 1, generator=generator).to(video) * (high - low) + low
        )

    degraded = (random(0, 1) < 0.5).to(video)
    fading = degraded * random(0, max_fading)
    video = (1 - fading) * video + fading * video.mean(dim=2, keepdim=True)
    video = gaussian_blur(video, (degraded * random(0, max_blur_px)).flatten())
    video = video * random(0.85, 1.1) + random(-0.1, 0.1)
    noise = torch.randn(video.shape, generator=generator).to(video)
    return (video + random(0, max_noise) * noise).clamp(-1, 1)


def gaussian_blur(
    video: Float[Tensor, "b c t h w"], sigma_px: Float[Tensor, " b"], radius: int = 3
) -> Float[Tensor, "b c t h w"]:
    """Spatial Gaussian blur, one width per clip, borders repeated; width 0 changes nothing."""
    offset = torch.arange(-radius, radius + 1).to(video)
    kernel = torch.exp(-0.5 * (offset / sigma_px.clamp(min=1e-3)[:, None]).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    images = rearrange(video, "b c t h w -> b (c t) h w")
    rows = F.pad(images, (0, 0, radius, radius), mode="replicate")
    images = torch.einsum("bnkhw,bk->bnhw", _windows(rows, 2, images.shape[2]), kernel)
    columns = F.pad(images, (radius, radius, 0, 0), mode="replicate")
    images = torch.einsum("bnkhw,bk->bnhw", _windows(columns, 3, images.shape[3]), kernel)
    return rearrange(images, "b (c t) h w -> b c t h w", c=video.shape[1])


def mirror(batch: Batch) -> Batch:
    """The batch mirrored left to right."""
    flow = batch.flow_px
    if flow is not None:
        flow = flow.flip(-1) * torch.tensor([-1.0, 1.0]).to(flow).view(1, 2, 1, 1, 1)
    return replace(
        batch,
        video=batch.video.flip(-1),
        masks=batch.masks.flip(-1),
        depth_m=None if batch.depth_m is None else batch.depth_m.flip(-1),
        flow_px=flow,
    )


def augmented(batch: Batch, generator: torch.Generator | None = None) -> Batch:
    """Mirrored at random, colour channels in random order, and degraded."""
    if torch.rand((), generator=generator) < 0.5:
        batch = mirror(batch)
    channels = torch.randperm(3, generator=generator).to(batch.video.device)
    return replace(batch, video=degrade(batch.video[:, channels], generator))


def _windows(x: Tensor, axis: int, size: int) -> Tensor:
    """Shifted views of length ``size`` along ``axis``, stacked as dimension 2."""
    count = x.shape[axis] - size + 1
    return torch.stack([x.narrow(axis, i, size) for i in range(count)], dim=2)
