"""Layers shared by the small embedded teachers."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with one group norm and SiLU, around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class UNetTrunk(nn.Module):
    """U-Net over features at half resolution: three levels of ``width``, 2x and 4x ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.half_in = ResidualBlock(width)
        self.down_quarter = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.quarter_in = ResidualBlock(2 * width)
        self.down_eighth = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.eighth = ResidualBlock(4 * width)
        self.up_quarter = nn.Conv2d(4 * width, 2 * width, 1)
        self.quarter_out = ResidualBlock(2 * width)
        self.up_half = nn.Conv2d(2 * width, width, 1)
        self.half_out = ResidualBlock(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        half = self.half_in(x)
        quarter = self.quarter_in(self.down_quarter(F.silu(half)))
        eighth = self.eighth(self.down_eighth(F.silu(quarter)))
        quarter = self.quarter_out(quarter + upsample2(self.up_quarter(F.silu(eighth))))
        return self.half_out(half + upsample2(self.up_half(F.silu(quarter))))


def upsample2(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Bilinear upsampling by two."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def per_frame(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b*t c h w"]:
    """Frames of all clips as one batch of images."""
    return rearrange(video, "b c t h w -> (b t) c h w")
