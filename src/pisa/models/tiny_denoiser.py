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
        h = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        x = x + (1 + gate) * self.attention_out(h)
        h = torch.addcmul(mlp_shift, F.layer_norm(x, x.shape[-1:]), 1 + mlp_scale)
        return x + (1 + mlp_gate) * self.mlp_out(F.gelu(self.mlp_in(h)))


class TinyDenoiser(nn.Module):
    """Predicts clean latents ``x_0`` from noisy ones.

    Every token sees the noisy patch and the patch of latent frame 0 at its place. The caption acts
    through its mean embedding. The last layer starts at zero: a fresh network predicts a clip
    that stands still (``TinyCodec`` stores differences to frame 0).

    The output is a part made from the tokens plus a part copied from latent frame 0 by attention.
    """

    def __init__(
        self,
        latent_channels: int = 12,
        num_frames: int = 16,
        latent_size: int = 8,
        patch: int = 2,
        width: int = 160,
        depth: int = 6,
        num_heads: int = 5,
        pointer_width: int = 32,
        caption_channels: int = 64,
        caption_length: int = 8,
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
        self.pointer = nn.Linear(width, pointer_width * patch**2)
        self.target = nn.Parameter(torch.randn(latent_size**2, pointer_width) * 0.5)
        self.target_content = nn.Linear(latent_channels, pointer_width)
        self.copy_scale = nn.Parameter(torch.full((latent_channels,), 1.5))
        self.copy_gate = nn.Linear(width, patch**2)
        for layer in (self.head, self.copy_gate):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "b c f h w"],
        noise_level: Float[Tensor, " b"],
        caption: Float[Tensor, "b l k"],
        caption_mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b c f h w"]:
        """``x_0`` of clips whose frame 0 is given clean; ``noise_level`` in [0, 1]."""
        frames, height = x.shape[2], x.shape[3] // self.patch
        first = x[:, :, :1].expand(-1, -1, frames, -1, -1)
        tokens = rearrange(
            torch.cat([x, first], dim=1),
            "b c f (h p) (w q) -> b f (h w) (c p q)",
            p=self.patch,
            q=self.patch,
        )
        tokens = self.embed(tokens) + self.place + self.time[:, :frames]
        tokens = rearrange(tokens, "b f s d -> b (f s) d")
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
        pointers = rearrange(self.pointer(tokens), unpatch, **layout)
        gate = rearrange(self.copy_gate(tokens), unpatch, **layout)
        return fresh + gate * self._copied(pointers, x[:, :, 0])

    def _copied(
        self, pointers: Float[Tensor, "b k f h w"], first: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c f h w"]:
        """Latents of frame 0 fetched from where each position points, minus those at its place.

        Content then need not pass through the tokens: the network says where it comes from.
        """
        frames, height = pointers.shape[2:4]
        content = rearrange(first, "b c h w -> b (h w) c")
        keys = self.target + self.target_content(content)
        queries = rearrange(pointers, "b k f h w -> b (f h w) k")
        fetched = F.scaled_dot_product_attention(queries, keys, content * self.copy_scale)
        fetched = rearrange(fetched, "b (f h w) c -> b c f h w", f=frames, h=height)
        return fetched - rearrange(first, "b c h w -> b c 1 h w") * self.copy_scale.view(
            -1, 1, 1, 1
        )


def _fourier(noise_level: Float[Tensor, " b"], channels: int = 64) -> Float[Tensor, "b k"]:
    frequency = torch.exp(
        torch.linspace(0, math.log(100.0), channels // 2, device=noise_level.device)
    )
    angle = noise_level[:, None] * frequency * math.pi
    return torch.cat([angle.sin(), angle.cos()], dim=1)
