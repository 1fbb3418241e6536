"""The temporal autoencoder of Open-Sora's VAE v1.2: causal 3D convolutions over spatial latents.

A causal convolution sees frame t and earlier ones (zeros before the first). The group norms
average over time too, so a frame encoded alone and within a clip give different latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over latents."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Gaussian:
        """From mean and log variance stacked along axis 1; the latter is kept in [-30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    def sample(self, draw_noise: Callable[[Tensor], Tensor] = torch.randn_like) -> Tensor:
        """``mean + std n``, with n from ``draw_noise(mean)``."""
        return self.mean + self.std * draw_noise(self.mean)


class CausalConv3d(nn.Module):
    """3D convolution, zero-padded in front in time and on both sides in space."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        time_stride: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.time_padding = kernel_size - time_stride
        margin = kernel_size // 2
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            kernel_size,
            stride=(time_stride, 1, 1),
            padding=(0, margin, margin),
            bias=bias,
        )

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d u h w"]:
        """u = t / time_stride."""
        return self.conv(F.pad(x, (0, 0, 0, 0, self.time_padding, 0)))


class ResidualBlock(nn.Module):
    """Two pre-activated causal convolutions; a 1x1x1 convolution where channels change."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, bias=False)
        if in_channels != out_channels:
            self.conv3 = CausalConv3d(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv3(x) if hasattr(self, "conv3") else x)


def _residual_stack(in_channels: int, channels: int, count: int, groups: int) -> nn.Sequential:
    inputs = [in_channels] + [channels] * (count - 1)
    return nn.Sequential(*(ResidualBlock(size, channels, groups) for size in inputs))


class TemporalEncoder(nn.Module):
    """Residual stages; stages flagged in ``temporal_downsample`` end in a stride of 2 in time."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        num_res_blocks: int,
        channel_multipliers: Sequence[int],
        temporal_downsample: Sequence[bool],
        num_groups: int,
    ):
        super().__init__()
        widths = [filters * m for m in channel_multipliers]
        self.conv_in = CausalConv3d(in_channels, filters, bias=False)
        self.block_res_blocks = nn.ModuleList(
            _residual_stack(before, width, num_res_blocks, num_groups)
            for before, width in zip([filters, *widths[:-1]], widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, time_stride=2) if halve else nn.Identity()
            for width, halve in zip(widths[:-1], temporal_downsample, strict=True)
        )
        self.res_blocks = _residual_stack(widths[-1], widths[-1], num_res_blocks, num_groups)
        self.norm1 = nn.GroupNorm(num_groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], out_channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d f h w"]:
        x = self.conv_in(x)
        for stage, down in zip(self.block_res_blocks, [*self.conv_blocks, None], strict=True):
            x = stage(x) if down is None else down(stage(x))
        return self.conv2(F.silu(self.norm1(self.res_blocks(x))))


class TemporalDecoder(nn.Module):
    """The encoder in reverse; time doubles by moving half of the channels into it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: int,
        num_res_blocks: int,
        channel_multipliers: Sequence[int],
        temporal_downsample: Sequence[bool],
        num_groups: int,
    ):
        super().__init__()
        widths = [filters * m for m in channel_multipliers]
        self.conv1 = CausalConv3d(in_channels, widths[-1])
        self.res_blocks = _residual_stack(widths[-1], widths[-1], num_res_blocks, num_groups)
        self.block_res_blocks = nn.ModuleList(
            _residual_stack(above, width, num_res_blocks, num_groups)
            for width, above in zip(widths, [*widths[1:], widths[-1]], strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(above, 2 * above) if double else nn.Identity()
            for above, double in zip(widths[1:], temporal_downsample, strict=True)
        )
        self.norm1 = nn.GroupNorm(num_groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], out_channels)

    def forward(self, x: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b d t h w"]:
        x = self.res_blocks(self.conv1(x))
        stages = zip(self.block_res_blocks, [None, *self.conv_blocks], strict=True)
        for stage, up in reversed(list(stages)):
            x = stage(x)
            if isinstance(up, CausalConv3d):
                x = rearrange(up(x), "b (c two) f h w -> b c (f two) h w", two=2)
        return self.conv_out(F.silu(self.norm1(x)))


class TemporalVAE(nn.Module):
    """Compresses time 4-fold (2 ** number of halvings); the defaults are those of VAE v1.2.

    Lengths that do not divide are padded with zeros in front, which ``decode`` cuts off again.
    """

    def __init__(
        self,
        in_out_channels: int = 4,
        latent_embed_dim: int = 4,
        embed_dim: int = 4,
        filters: int = 128,
        num_res_blocks: int = 4,
        channel_multipliers: Sequence[int] = (1, 2, 2, 4),
        temporal_downsample: Sequence[bool] = (False, True, True),
        num_groups: int = 32,
    ):
        super().__init__()
        self.time_factor = 2 ** sum(temporal_downsample)
        stages = (filters, num_res_blocks, channel_multipliers, temporal_downsample, num_groups)
        self.encoder = TemporalEncoder(in_out_channels, 2 * latent_embed_dim, *stages)
        self.quant_conv = CausalConv3d(2 * latent_embed_dim, 2 * embed_dim, kernel_size=1)
        self.post_quant_conv = CausalConv3d(embed_dim, latent_embed_dim, kernel_size=1)
        self.decoder = TemporalDecoder(latent_embed_dim, in_out_channels, *stages)

    def latent_frames(self, num_frames: int) -> int:
        return -(-num_frames // self.time_factor)

    def encode(self, x: Float[Tensor, "b c t h w"]) -> Gaussian:
        """Posterior over latents [B, C, ceil(T / 4), h, w]."""
        padded = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.time_factor, 0))
        return Gaussian.from_moments(self.quant_conv(self.encoder(padded)))

    def decode(self, z: Float[Tensor, "b c f h w"], num_frames: int) -> Float[Tensor, "b c t h w"]:
        """The last ``num_frames`` frames of what ``z`` decodes to.

        Raises:
            ValueError: ``z`` does not hold the latent frames of ``num_frames`` frames.
        """
        if z.shape[2] != self.latent_frames(num_frames):
            raise ValueError(f"{z.shape[2]} latent frames do not decode to {num_frames} frames")
        x = self.decoder(self.post_quant_conv(z))
        return x[:, :, -num_frames % self.time_factor :]
