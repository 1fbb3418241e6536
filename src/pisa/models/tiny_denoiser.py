"""The denoiser of the tiny base model: full space-time attention over few tokens.

At 256 tokens a clip, full attention costs less than the linear layers. A small STDiT3 in its place
kept its objects noisy after the same training (docs/results.md).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.ranges import Count


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


class TinyDenoiser(nn.Module):
    """Predicts clean latents ``x_0`` from noisy ones.

    Every token sees the noisy patch and the patch of latent frame 0 at its place. The caption acts
    through its mean embedding. The last layer starts at zero: a fresh network predicts a clip
    that stands still (``TinyCodec`` stores differences to frame 0).

    The output is a part made from the tokens plus the noisy latents times a gate: 0 on a background
    that stands still (its ``x_0`` is zero, so no noise need be undone there), near 1 on objects at
    low noise.
    """

    def __init__(
        self,
        latent_channels: Count = 12,
        num_frames: Count = 16,
        latent_size: Count = 16,
        patch: Count = 4,
        width: Count = 256,
        depth: Count = 8,
        num_heads: Count = 4,
        caption_channels: Count = 64,
        caption_length: Count = 8,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.width = width
        patches = (latent_size // patch) ** 2
        self.embed = nn.Linear(2 * latent_channels * patch**2, width)
        self.place = nn.Parameter(torch.randn(1, 1, patches, width) * 0.2)
        self.time = nn.Parameter(torch.randn(1, num_frames, 1, width) * 0.2)
        self.level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.caption = nn.Linear(caption_channels, width)
        self.null_caption = nn.Parameter(torch.zeros(caption_length, caption_channels))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_Block(width, num_heads) for _ in range(depth))
        self.head = nn.Linear(width, latent_channels * patch**2)
        self.keep_gate = nn.Linear(width, patch**2)
        for layer in (self.head, self.keep_gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "b c f h w"],
        noise_level: Float[Tensor, " b"],
        caption: Float[Tensor, "b l k"],
        caption_mask: Bool[Tensor, "b l"],
        null: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b c f h w"]:
        """``x_0`` of clips whose frame 0 is given clean; ``noise_level`` in [0, 1].

        Rows of ``null`` take the null prompt as their caption.
        """
        frames, height = x.shape[2], x.shape[3] // self.patch
        if height**2 != self.place.shape[2] or x.shape[3] != x.shape[4]:
            side = int(self.place.shape[2] ** 0.5) * self.patch
            raise PisaError(
                f"the tiny model is made for latents of {side}x{side}, not {x.shape[3]}x"
                f"{x.shape[4]}: give it clips of the size it was trained on"
            )
        if frames > self.time.shape[1]:
            raise PisaError(f"the tiny model makes {self.time.shape[1]} frames, not {frames}")
        first = x[:, :, :1].expand(-1, -1, frames, -1, -1)
        tokens = rearrange(
            torch.cat([x, first], dim=1),
            "b c f (h p) (w q) -> b f (h w) (c p q)",
            p=self.patch,
            q=self.patch,
        )
        tokens = self.embed(tokens) + self.place + self.time[:, :frames]
        tokens = rearrange(tokens, "b f s d -> b (f s) d")
        if null is not None:
            caption = torch.where(null[:, None, None], self.null_caption, caption)
        weight = caption_mask.to(caption)[..., None]
        text = self.caption((caption * weight).sum(1) / weight.sum(1).clamp(min=1))
        condition = self.level(_fourier(noise_level)) + text
        modulation = self.modulation(condition).unflatten(-1, (6, -1))
        for block in self.blocks:
            tokens = block(tokens, modulation)
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        layout = {"f": frames, "h": height, "p": self.patch, "q": self.patch}
        unpatch = "b (f h w) (c p q) -> b c f (h p) (w q)"
        fresh = rearrange(self.head(tokens), unpatch, **layout)
        kept = rearrange(self.keep_gate(tokens), unpatch, **layout)
        return fresh + kept * x


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
