"""The denoiser of the tiny base model: full space-time attention over few tokens.

At 256 tokens a clip, full attention costs less than the linear layers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.ops.warp import warp
from pisa.ranges import Count

CHANNELS = 3
MAX_FLOW_PX = 48.0
FLOW_UNIT_PX = 8.0
FRESH_SHARES = (2.0, 0.0, -1.0, 0.0, -2.0)  # logits: frame 0, moved, shifted, new, noisy input


class _Block(nn.Module):
    """Pre-norm attention and MLP with adaptive modulation (DiT, arXiv:2212.09748)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(
        self, x: Float[Tensor, "b n d"], modulation: Float[Tensor, "b 6 d"]
    ) -> Float[Tensor, "b n d"]:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (modulation + self.table)[
            :, :, None
        ].unbind(1)
        h = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)
        q, k, v = rearrange(self.qkv(h), "b n (k h d) -> k b h n d", k=3, h=self.num_heads)
        h = rearrange(_attention(q, k, v), "b h n d -> b n (h d)")
        x = x + (1 + gate) * self.attention_out(h)
        h = torch.addcmul(mlp_shift, F.layer_norm(x, x.shape[-1:]), 1 + mlp_scale)
        return x + (1 + mlp_gate) * self.mlp_out(F.gelu(self.mlp_in(h)))


class Prediction(NamedTuple):
    """The clean clip, and where its pixels were in frame 0."""

    clean: Float[Tensor, "b 3 t h w"]
    displacement_px: Float[Tensor, "b 2 t h w"]  # (x, y) from a pixel back to its place in frame 0


class TinyDenoiser(nn.Module):
    """Predicts clean pixels ``x_0`` from noisy ones: frame 0, then differences to frame 0.

    JiT (arXiv:2511.13720) shows that a plain transformer on large patches learns to denoise raw
    pixels if it predicts the clean image. A token is a patch of ``patch`` x ``patch`` pixels of one
    frame, noisy, beside the same patch of frame 0. The caption acts through its mean embedding.

    Each pixel is a mixture of five pictures with shares that the network predicts: frame 0 as it
    is, frame 0 moved (by a displacement on a grid of ``flow_px`` pixels), frame 0 shifted (by one
    displacement per patch), a new colour, and the noisy input, which is near the truth at low
    noise. Moved objects keep their colours and edges without having to be drawn; what they uncover
    is shifted in from beside them. A fresh network repeats frame 0.
    """

    def __init__(
        self,
        num_frames: Count = 16,
        size_px: Count = 64,
        patch: Count = 16,
        flow_px: Count = 4,
        width: Count = 256,
        depth: Count = 8,
        num_heads: Count = 4,
        caption_channels: Count = 64,
        caption_length: Count = 8,
    ) -> None:
        super().__init__()
        self.num_frames, self.size_px = num_frames, size_px
        self.patch, self.flow_px = patch, flow_px
        pixels = patch**2
        self.embed = nn.Linear(2 * CHANNELS * pixels, width)
        self.place = nn.Parameter(torch.randn(1, 1, (size_px // patch) ** 2, width) * 0.2)
        self.time = nn.Parameter(torch.randn(1, num_frames, 1, width) * 0.2)
        self.level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.caption = nn.Linear(caption_channels, width)
        self.null_caption = nn.Parameter(torch.zeros(caption_length, caption_channels))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_Block(width, num_heads) for _ in range(depth))
        self.colour = nn.Linear(width, pixels * CHANNELS)
        self.share = nn.Linear(width, pixels * len(FRESH_SHARES))
        self.flow = nn.Linear(width, (patch // flow_px) ** 2 * 2)
        self.patch_shift = nn.Linear(width, 2)
        heads = (
            (self.colour, 0.0),
            (self.share, 0.002),
            (self.flow, 0.002),
            (self.patch_shift, 0.002),
        )
        for layer, std in heads:
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.share.bias.view(-1, len(FRESH_SHARES)).copy_(torch.tensor(FRESH_SHARES))

    def forward(
        self,
        x: Float[Tensor, "b 3 t h w"],
        noise_level: Float[Tensor, " b"],
        caption: Float[Tensor, "b l k"],
        caption_mask: Bool[Tensor, "b l"],
        null: Bool[Tensor, " b"] | None = None,
    ) -> Prediction:
        """Predict clips whose frame 0 is given clean; ``noise_level`` in [0, 1].

        Rows of ``null`` take the null prompt as their caption.

        Raises:
            PisaError: clips of another length or size than the network is made for.
        """
        length, height, width = x.shape[2:]
        if (length, height, width) != (self.num_frames, self.size_px, self.size_px):
            raise PisaError(
                f"the tiny model makes clips of {self.num_frames} frames of {self.size_px}x"
                f"{self.size_px} pixels, not {length} of {width}x{height}"
            )
        first = x[:, :, :1].expand(-1, -1, length, -1, -1)
        noisy = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:]], dim=2)
        tokens = self.tokens(
            torch.cat([noisy, first], dim=1), noise_level, caption, caption_mask, null
        )
        rows = {"h": height // self.patch, "f": length}
        unpatch = "b (f h w) (p q c) -> (b f) c (h p) (w q)"
        layout = {"p": self.patch, "q": self.patch} | rows
        new = rearrange(self.colour(tokens), unpatch, **layout)
        shares = rearrange(self.share(tokens), unpatch, **layout).float().softmax(dim=1)
        small = self.patch // self.flow_px
        grid = rearrange(self.flow(tokens), unpatch, p=small, q=small, **rows)
        displacement_px = self._per_pixel(grid.float(), self.flow_px, "bilinear")
        patches = rearrange(self.patch_shift(tokens), "b (f h w) c -> (b f) c h w", **rows)
        shift_px = self._per_pixel(patches.float(), self.patch, "nearest")
        picture = rearrange(first, "b c t h w -> (b t) c h w").float()
        moved = warp(picture, displacement_px) - picture
        shifted = warp(picture, shift_px) - picture
        still_noisy = rearrange(noisy, "b c t h w -> (b t) c h w")
        _, of_moved, of_shifted, of_new, of_noisy = shares.split(1, dim=1)
        clean = of_moved * moved + of_shifted * shifted + of_new * new + of_noisy * still_noisy
        frames = "(b t) c h w -> b c t h w"
        return Prediction(
            rearrange(clean.to(x), frames, t=length),
            rearrange(displacement_px, frames, t=length),
        )

    def tokens(
        self,
        pictures: Float[Tensor, "b 6 t h w"],
        noise_level: Float[Tensor, " b"],
        caption: Float[Tensor, "b l k"],
        caption_mask: Bool[Tensor, "b l"],
        null: Bool[Tensor, " b"] | None,
    ) -> Float[Tensor, "b n d"]:
        """Output of the transformer for every patch, in the order frame, row, column."""
        layout = {"p": self.patch, "q": self.patch}
        patches = rearrange(pictures, "b c t (h p) (w q) -> b t (h w) (c p q)", **layout)
        tokens = (self.embed(patches) + self.place + self.time).flatten(1, 2)
        if null is not None:
            caption = torch.where(null[:, None, None], self.null_caption, caption)
        weight = caption_mask.to(caption)[..., None]
        text = self.caption((caption * weight).sum(1) / weight.sum(1).clamp(min=1))
        condition = self.level(_fourier(noise_level)) + text
        modulation = self.modulation(condition).unflatten(-1, (6, -1))
        for block in self.blocks:
            tokens = block(tokens, modulation)
        return F.layer_norm(tokens, tokens.shape[-1:])

    @staticmethod
    def _per_pixel(
        grid: Float[Tensor, "n 2 i j"], cell_px: int, mode: str
    ) -> Float[Tensor, "n 2 h w"]:
        """Displacement of each pixel, px, from a grid in ``FLOW_UNIT_PX``; bounded smoothly."""
        bounded = MAX_FLOW_PX * torch.tanh(grid * (FLOW_UNIT_PX / MAX_FLOW_PX))
        return F.interpolate(bounded, scale_factor=cell_px, mode=mode)


def _attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h n d"]:
    """Plain softmax attention: at 256 tokens its backward on CPU beats the fused kernel's."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.softmax(dim=-1) @ v


def _fourier(noise_level: Float[Tensor, " b"], channels: int = 64) -> Float[Tensor, "b k"]:
    frequency = torch.exp(
        torch.linspace(0, math.log(100.0), channels // 2, device=noise_level.device)
    )
    angle = noise_level[:, None] * frequency * math.pi
    return torch.cat([angle.sin(), angle.cos()], dim=1)
