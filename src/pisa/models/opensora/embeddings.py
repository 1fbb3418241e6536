"""Embeddings of patches, positions, scalars and captions in STDiT3."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbed3D(nn.Module):
    """Linear map of non-overlapping patches; zero-pads the far side of sizes that do not divide.

    The weight has the layout of a ``Conv3d`` whose stride is its kernel.
    """

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, hidden_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b t s d"]:
        """Tokens, with t frames of s patches in row-major order."""
        pt, ph, pw = self.patch_size
        frames, height, width = x.shape[2:]
        if frames % pt or height % ph or width % pw:
            x = F.pad(x, (0, -width % pw, 0, -height % ph, 0, -frames % pt))
        patches = rearrange(
            x, "b c (t pt) (h ph) (w pw) -> b t (h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw
        )
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def position_embedding(
    height: int, width: int, dim: int, *, scale: float, base_size: int, device: torch.device
) -> Float[Tensor, "s d"]:
    """Sine-cosine embedding of a grid of patches, s = height * width, in float32.

    The first half of the channels holds x, the second y; each is sines, then cosines. Coordinates
    are ``index / scale * base_size / size``, so that a grid of any size spans the same range.
    """
    half = dim // 2
    rates = 10000 ** (-torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)

    def axis(size: int) -> Tensor:
        place = torch.arange(size, device=device, dtype=torch.float32) / scale * (base_size / size)
        angle = place[:, None] * rates
        return torch.cat([angle.sin(), angle.cos()], dim=-1)  # [size, half]

    x = axis(width).expand(height, width, half)
    y = axis(height)[:, None].expand(height, width, half)
    return torch.cat([x, y], dim=-1).flatten(0, 1)


class ScalarEmbedder(nn.Module):
    """Sinusoidal features of a timestep in [0, 1000] or of frames per second, then an MLP."""

    frequency_size = 256

    def __init__(self, hidden_size: int):
        super().__init__()
        first = nn.Linear(self.frequency_size, hidden_size)
        self.mlp = nn.Sequential(first, nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, value: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Features are computed in float32 whatever the dtype of ``value``."""
        half = self.frequency_size // 2
        place = torch.arange(half, device=value.device, dtype=torch.float32)
        angle = value.float()[:, None] * torch.exp(-math.log(10000) / half * place)
        features = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class Mlp(nn.Module):
    """Two linear layers with a tanh-approximated GELU between."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int):
        super().__init__()
        self.fc1 = nn.Linear(in_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, out_size)

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    """Projects caption tokens; in train mode swaps whole captions for the null prompt.

    ``y_embedding`` is the null prompt in the text encoder's space, a buffer that is not trained.
    """

    def __init__(
        self, in_channels: int, hidden_size: int, drop_probability: float, num_tokens: int
    ):
        super().__init__()
        self.drop_probability = drop_probability
        self.y_proj = Mlp(in_channels, hidden_size, hidden_size)
        self.register_buffer("y_embedding", torch.randn(num_tokens, in_channels) / in_channels**0.5)
        self.y_embedding: Tensor

    def forward(self, caption: Float[Tensor, "b l c"]) -> Float[Tensor, "b l d"]:
        """``l`` must equal the number of null tokens in train mode."""
        if self.training and self.drop_probability > 0:
            drop = torch.rand(caption.shape[0], device=caption.device) < self.drop_probability
            caption = torch.where(drop[:, None, None], self.y_embedding.to(caption.dtype), caption)
        return self.y_proj(caption)
