"""A small convolutional autoencoder of single frames: the codec of the tiny base model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(F.silu(self.conv_in(F.silu(self.norm(x)))))


class _Up(nn.Module):
    """Doubles the resolution by a convolution and a pixel shuffle."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class TinyCodec(nn.Module):
    """Frames ``[..., 3, H, W]`` in [-1, 1] to latents ``[..., C, H/8, W/8]`` and back.

    Video latents hold frame 0 as it is and every later frame as its difference to frame 0, each
    scaled to unit variance by the buffers below: a static background is then exactly zero, and a
    denoiser spends its capacity on what moves.
    """

    def __init__(self, latent_channels: int = 12, width: int = 32) -> None:
        super().__init__()
        w = width
        self.latent_channels = latent_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 4, stride=2, padding=1),  # H/2
            nn.SiLU(),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),  # H/4
            _Residual(2 * w),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1),  # H/8
            _Residual(4 * w),
            _Residual(4 * w),
            _norm(4 * w),
            nn.SiLU(),
            nn.Conv2d(4 * w, latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, 4 * w, 3, padding=1),
            _Residual(4 * w),
            _Residual(4 * w),
            _Up(4 * w, 2 * w),  # H/4
            _Residual(2 * w),
            _Residual(2 * w),
            _Up(2 * w, w),  # H/2
            _Residual(w),
            _norm(w),
            nn.SiLU(),
            nn.Conv2d(w, 12, 3, padding=1),
            nn.PixelShuffle(2),  # H
        )
        # Linear paths of 8x8 patches: they carry colour from the first step, where the
        # convolutions alone stay grey for a thousand.
        self.patch_in = nn.Conv2d(3, latent_channels, 8, stride=8)
        self.patch_out = nn.ConvTranspose2d(latent_channels, 3, 8, stride=8)
        self.mean: Tensor
        self.std: Tensor
        self.residual_std: Tensor
        for name, value in (("mean", 0.0), ("std", 1.0), ("residual_std", 1.0)):
            self.register_buffer(name, torch.full((latent_channels, 1, 1, 1), value))

    def encode_frames(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        """Unscaled latents of single frames."""
        return self.encoder(frames) + self.patch_in(frames)

    def decode_frames(self, latents: Float[Tensor, "n c i j"]) -> Float[Tensor, "n 3 h w"]:
        """Frames from unscaled latents, nominally in [-1, 1]."""
        return self.decoder(latents) + self.patch_out(latents)

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t i j"]:
        """Scaled video latents."""
        b = video.shape[0]
        z = self.encode_frames(rearrange(video, "b c t h w -> (b t) c h w"))
        z = rearrange(z, "(b t) c h w -> b c t h w", b=b)
        first = z[:, :, :1]
        scaled = (first - self.mean) / self.std
        return torch.cat([scaled, (z[:, :, 1:] - first) / self.residual_std], dim=2)

    def decode(self, latents: Float[Tensor, "b c t i j"]) -> Float[Tensor, "b 3 t h w"]:
        """Inverse of ``encode``."""
        b = latents.shape[0]
        first = latents[:, :, :1] * self.std + self.mean
        z = torch.cat([first, latents[:, :, 1:] * self.residual_std + first], dim=2)
        frames = self.decode_frames(rearrange(z, "b c t h w -> (b t) c h w"))
        return rearrange(frames, "(b t) c h w -> b c t h w", b=b)

    @torch.no_grad()
    def fit_scale(self, video: Float[Tensor, "b 3 t h w"]) -> None:
        """Set the scale buffers from sample clips so that both parts have unit variance."""
        for name, value in (("mean", 0.0), ("std", 1.0), ("residual_std", 1.0)):
            getattr(self, name).fill_(value)
        z = self.encode(video)
        first, residual = z[:, :, 0], z[:, :, 1:]
        self.mean.copy_(first.mean(dim=(0, 2, 3)).view_as(self.mean))
        self.std.copy_(first.std(dim=(0, 2, 3)).view_as(self.std))
        self.residual_std.copy_(residual.square().mean(dim=(0, 2, 3, 4)).sqrt().view_as(self.std))
