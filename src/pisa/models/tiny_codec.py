"""The codec of the tiny base model: the first frame as a picture, later frames as motion.

A convolutional autoencoder keeps frame 0. A later frame is kept as what has moved where since
frame 0, and decoded by warping: colours then come from the picture, and a denoiser need only learn
motion. (With autoencoders of single frames objects dissolved into noise on their way, in shorter
trials: see docs/results.md.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from pisa.ops.warp import sample_bilinear
from pisa.ranges import Count, NonNegative

STRIDE = 4  # pixels per latent position
LOUD_SHARE = 0.1  # of latent positions: those that set the scale of motion latents


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of each position.

    Unlike GroupNorm it mixes no positions: a moving object leaves far latents as they are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _ChannelNorm(channels)
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


def _down(channels_in: int, width: int) -> nn.Sequential:
    """To a quarter of the resolution, ``2 * width`` channels."""
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        _Residual(2 * width),
        _Residual(2 * width),
    )


class StillCodec(nn.Module):
    """Single frames ``[n, 3, H, W]`` to latents ``[n, C, H/4, W/4]`` and back."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        w = width
        self.encoder = nn.Sequential(
            _down(3, w), nn.SiLU(), nn.Conv2d(2 * w, channels, 3, padding=1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 2 * w, 3, padding=1),
            _Residual(2 * w),
            _Residual(2 * w),
            _Up(2 * w, w),
            _Residual(w),
            nn.SiLU(),
            nn.Conv2d(w, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        # Linear paths of 4x4 patches; ``fit_patches`` starts them at the best linear code, and the
        # convolutions learn what it misses.
        self.patch_in = nn.Conv2d(3, channels, STRIDE, stride=STRIDE)
        self.patch_out = nn.ConvTranspose2d(channels, 3, STRIDE, stride=STRIDE)

    def encode(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c i j"]:
        frames = frames.contiguous(memory_format=torch.channels_last)  # 7 x faster in bf16 on CPU
        return self.encoder(frames) + self.patch_in(frames)

    def decode(self, latents: Float[Tensor, "n c i j"]) -> Float[Tensor, "n 3 h w"]:
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.decoder(latents) + self.patch_out(latents)

    @torch.no_grad()
    def fit_patches(self, frames: Float[Tensor, "n 3 h w"]) -> None:
        """Start from the principal components of the patches of ``frames``, unit variance."""
        layout = {"p": STRIDE, "q": STRIDE}
        patches = rearrange(frames, "n c (h p) (w q) -> (n h w) (c p q)", **layout).float()
        mean = patches.mean(dim=0)
        _, variance, axes = torch.linalg.svd(torch.cov((patches - mean).T))
        channels = self.patch_in.out_channels
        axes, scale = axes[:channels], variance[:channels].sqrt()[:, None]
        there, back = self.patch_in, self.patch_out
        assert there.bias is not None and back.bias is not None
        there.weight.copy_(rearrange(axes / scale, "z (c p q) -> z c p q", **layout))
        there.bias.copy_(-(axes / scale) @ mean)
        back.weight.copy_(rearrange(axes * scale, "z (c p q) -> z c p q", **layout))
        back.bias.copy_(mean.view(3, -1).mean(dim=1))
        for parameter in (*self.encoder[-1].parameters(), *self.decoder[-2].parameters()):
            nn.init.zeros_(parameter)


class MotionCodec(nn.Module):
    """Encodes the motion from a reference frame to another, and decodes the other frame from it.

    Channels 0 and 1 of the latents are the displacement back to the reference (x, y) in units of
    ``STRIDE`` pixels, before what a still frame would give is subtracted; the rest is free.
    Positions whose pixels all differ by at most ``still_below`` from the reference hold zeros:
    around an object the matches of a uniform background jump about, which says nothing.
    """

    def __init__(self, channels: int, width: int, still_below: float | None = None) -> None:
        super().__init__()
        w = width
        self.still_below = still_below
        self.features = _down(3, w)
        self.log_scale = nn.Parameter(torch.tensor(3.4))  # of feature similarity
        self.read = nn.Sequential(
            nn.Conv2d(4 * w + 3, 2 * w, 3, padding=1),
            _Residual(2 * w),
            _Residual(2 * w),
            nn.SiLU(),
            nn.Conv2d(2 * w, channels, 3, padding=1),
        )
        self.write = nn.Sequential(
            nn.Conv2d(channels, 2 * w, 3, padding=1),
            _Residual(2 * w),
            _Up(2 * w, w),
            _Residual(w),
            _Up(w, w // 2),
        )
        self.refine = nn.Conv2d(w // 2, 2, 3, padding=1)
        self.compose = nn.Sequential(
            nn.Conv2d(w // 2 + 9, w // 2, 3, padding=1),
            nn.SiLU(),
            _Residual(w // 2),
            nn.SiLU(),
            nn.Conv2d(w // 2, 6, 3, padding=1),
        )
        nn.init.zeros_(self.refine.weight)
        last = list(self.compose.parameters())[-1]  # begins by leaving frames as they are
        with torch.no_grad():
            last.copy_(torch.tensor([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]))

    def encode(
        self, frames: Float[Tensor, "n 3 h w"], reference: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "n c i j"]:
        """Motion latents of n / b frames of each of b clips; zero where nothing has changed."""
        there = self.features(reference.contiguous(memory_format=torch.channels_last))
        here = self.features(frames.contiguous(memory_format=torch.channels_last))
        unchanged = self._read(there, there)
        times = len(frames) // len(reference)
        there, unchanged = (
            repeat(x, "b c i j -> (b t) c i j", t=times) for x in (there, unchanged)
        )
        latents = self._read(here, there) - unchanged
        if self.still_below is None:
            return latents
        before = repeat(reference, "b c h w -> (b t) c h w", t=times)
        change = (frames - before).abs().amax(dim=1, keepdim=True)
        return latents * (F.max_pool2d(change, STRIDE) > self.still_below)

    def flow(
        self, latents: Float[Tensor, "n c i j"]
    ) -> tuple[Float[Tensor, "n 2 h w"], Float[Tensor, "n k h w"]]:
        """Displacement back to the reference in pixels, and the features that refined it."""
        features = self.write(latents.contiguous(memory_format=torch.channels_last))
        coarse = F.interpolate(
            latents[:, :2].float(), scale_factor=STRIDE, mode="bilinear", align_corners=False
        )
        return STRIDE * (coarse + self.refine(features).float()), features

    def decode(
        self, latents: Float[Tensor, "n c i j"], reference: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, "n 3 h w"]:
        """Each pixel is a mixture of the warped reference, the reference, and a new colour."""
        flow, features = self.flow(latents)
        moved = warp(reference.float(), flow)
        parts = self.compose(torch.cat([features, moved, reference, moved - reference], dim=1))
        share = parts[:, :3].float().softmax(dim=1)[:, :, None]
        fresh = parts[:, 3:].float()
        return (share * torch.stack([moved, reference.float(), fresh], dim=1)).sum(dim=1)

    def _read(
        self, here: Float[Tensor, "n k i j"], there: Float[Tensor, "n k i j"]
    ) -> Float[Tensor, "n c i j"]:
        displacement, sureness = self._match(here, there)
        latents = self.read(torch.cat([here, there, displacement, sureness], dim=1)).float()
        return torch.cat([latents[:, :2] + displacement, latents[:, 2:]], dim=1)

    def _match(self, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Expected displacement to the best match in the reference, and how sharp it is."""
        height, width = here.shape[2:]
        queries, keys = (F.normalize(x.float().flatten(2), dim=1) for x in (here, there))
        weight = (self.log_scale.exp() * queries.mT @ keys).softmax(dim=2)  # [n, here, there]
        place = _grid(height, width, here.device).flatten(0, 1)  # [i j, 2] (x, y)
        displacement = rearrange(weight @ place - place, "n (i j) c -> n c i j", i=height)
        sureness = rearrange(weight.amax(dim=2), "n (i j) -> n 1 i j", i=height)
        return displacement, sureness


class TinyCodec(nn.Module):
    """Videos ``[B, 3, T, H, W]`` in [-1, 1] to latents ``[B, C, T, H/4, W/4]`` and back.

    Frame 0 fills all ``latent_channels``; later frames fill the first ``motion_channels``, the
    rest is zero. Both are scaled by the buffers below to about unit variance where they say
    something: a background that stands still is exactly zero, so that a denoiser spends its
    capacity on what moves.
    """

    def __init__(
        self,
        latent_channels: Count = 12,
        motion_channels: Count = 6,
        width: Count = 32,
        still_below: NonNegative | None = None,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.motion_channels = motion_channels
        self.still = StillCodec(latent_channels, width)
        self.motion = MotionCodec(motion_channels, width, still_below)
        self.mean: Tensor
        self.std: Tensor
        self.motion_std: Tensor
        for name, value, channels in (
            ("mean", 0.0, latent_channels),
            ("std", 1.0, latent_channels),
            ("motion_std", 1.0, motion_channels),
        ):
            self.register_buffer(name, torch.full((channels, 1, 1), value))

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t i j"]:
        """Scaled video latents."""
        first, later = video[:, :, 0], video[:, :, 1:]
        picture = (self.still.encode(first) - self.mean) / self.std
        if not later.shape[2]:
            return picture[:, :, None]
        z = self.motion.encode(rearrange(later, "b c t h w -> (b t) c h w"), first)
        z = rearrange(z / self.motion_std, "(b t) c i j -> b c t i j", b=len(video))
        unused = self.latent_channels - self.motion_channels
        return torch.cat([picture[:, :, None], F.pad(z, (0, 0) * 3 + (0, unused))], dim=2)

    def decode(self, latents: Float[Tensor, "b c t i j"]) -> Float[Tensor, "b 3 t h w"]:
        """Inverse of ``encode``."""
        first = self.still.decode(latents[:, :, 0] * self.std + self.mean)
        if latents.shape[2] == 1:
            return first[:, :, None]
        z = rearrange(latents[:, : self.motion_channels, 1:], "b c t i j -> (b t) c i j")
        reference = repeat(first, "b c h w -> (b t) c h w", t=latents.shape[2] - 1)
        later = self.motion.decode(z * self.motion_std, reference)
        later = rearrange(later, "(b t) c h w -> b c t h w", b=len(latents))
        return torch.cat([first[:, :, None], later], dim=2)

    @torch.no_grad()
    def fit_scale(self, video: Float[Tensor, "b 3 t h w"]) -> None:
        """Set the scale buffers from sample clips."""
        for scale, value in ((self.mean, 0.0), (self.std, 1.0), (self.motion_std, 1.0)):
            scale.fill_(value)
        latents = self.encode(video).float()
        picture, motion = latents[:, :, 0], latents[:, : self.motion_channels, 1:]
        self.mean.copy_(picture.mean(dim=(0, 2, 3)).view_as(self.mean))
        self.std.copy_(picture.std(dim=(0, 2, 3)).view_as(self.std))
        squares = rearrange(motion.square(), "b c t i j -> c (b t i j)")
        loud = squares.topk(max(1, int(LOUD_SHARE * squares.shape[1])), dim=1).values
        self.motion_std.copy_(loud.mean(dim=1).sqrt().clamp(min=1e-6).view_as(self.motion_std))


def warp(
    image: Float[Tensor, "n c h w"], flow_px: Float[Tensor, "n 2 h w"]
) -> Float[Tensor, "n c h w"]:
    """``image`` sampled at each pixel plus ``flow_px`` (x, y), bilinearly; edges repeat."""
    height, width = image.shape[2:]
    at = _grid(height, width, image.device) + flow_px.movedim(1, -1)
    size = torch.tensor([width, height], device=image.device)
    return sample_bilinear(image, (2 * at + 1) / size - 1, align_corners=False)


def _grid(height: int, width: int, device: torch.device) -> Float[Tensor, "h w 2"]:
    """(x, y) of every position."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=-1).float()
