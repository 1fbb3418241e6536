"""Transformer blocks of STDiT3 over tokens ``[B, T, S, C]`` (T frames of S patches).

Adaptive layer norm follows PixArt (arXiv:2310.00426): one shared projection of the timestep plus a
learned table per block. Here the modulation is per frame, ``[B, T, 6, C]``, so that frames given
clean can use that of timestep 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from pisa.models.opensora.embeddings import Mlp

NORM_EPS = 1e-6


class HeadNorm(nn.Module):
    """Root-mean-square norm over the channels of one attention head."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), NORM_EPS)


class RotaryEmbedding(nn.Module):
    """Rotary positions over frames with interleaved pairs (arXiv:2104.09864), in float32."""

    keep_fp32 = True  # where the rest of the network is computed in bfloat16

    def __init__(self, head_dim: int, theta: float = 10000.0):
        super().__init__()
        exponent = torch.arange(0, head_dim, 2).float() / head_dim
        self.freqs = nn.Parameter(theta**-exponent, requires_grad=False)

    def forward(self, num_frames: int) -> Tensor:
        """Unit complex numbers [T, 1, head_dim / 2] that rotate the pairs of each frame."""
        place = torch.arange(num_frames, device=self.freqs.device, dtype=torch.float32)
        angle = torch.outer(place, self.freqs.float())
        return torch.polar(torch.ones_like(angle), angle)[:, None]


def rotate(x: Float[Tensor, "b t n d"], rotation: Tensor) -> Float[Tensor, "b t n d"]:
    """Rotate channel pairs (2i, 2i + 1) of ``x`` by ``rotation`` [T, 1, d / 2]."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    """Attention over the S patches of each frame, or over the T frames of each patch."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool, temporal: bool):
        super().__init__()
        self.num_heads = num_heads
        self.temporal = temporal
        head_dim = hidden_size // num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm: nn.Module = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, x: Float[Tensor, "b t s c"], rotation: Tensor | None = None
    ) -> Float[Tensor, "b t s c"]:
        """``rotation`` is that of :class:`RotaryEmbedding`; temporal attention only."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(3)  # [B, T, S, H, D]
        q, k = self.q_norm(q), self.k_norm(k)
        # Patches join the heads, or frames the batch; either way attention sees 4 axes.
        start = 2 if self.temporal else 0
        q, k, v = (z.flatten(start, start + 1) for z in (q, k, v))
        if self.temporal and rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)  # [B, T, S * H, D]
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


class CrossAttention(nn.Module):
    """Attention of all video tokens to the caption's tokens."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(hidden_size, hidden_size)
        self.kv_linear = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        caption: Float[Tensor, "b l c"],
        mask: Bool[Tensor, "b 1 1 l"] | None,
    ) -> Float[Tensor, "b t s c"]:
        q = self.q_linear(x).flatten(1, 2).unflatten(-1, (self.num_heads, -1))  # [B, T S, H, D]
        k, v = self.kv_linear(caption).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


def modulate(
    x: Float[Tensor, "b t s c"], shift: Float[Tensor, "b u 1 c"], scale: Float[Tensor, "b u 1 c"]
) -> Float[Tensor, "b t s c"]:
    """``norm(x) (1 + scale) + shift``; u is t, or 1 where all frames share a timestep."""
    normed = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
    return torch.addcmul(shift, normed, 1 + scale)


class Block(nn.Module):
    """One spatial or temporal block: self-attention, cross-attention, MLP."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        qk_norm: bool = True,
        temporal: bool = False,
    ):
        super().__init__()
        self.attn = SelfAttention(hidden_size, num_heads, qk_norm, temporal)
        self.cross_attn = CrossAttention(hidden_size, num_heads)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio), hidden_size)
        self.drop_path = StochasticDepth(drop_path, mode="row")
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        caption: Float[Tensor, "b l c"],
        caption_mask: Bool[Tensor, "b 1 1 l"] | None,
        modulation: Float[Tensor, "b u 6 c"],
        rotation: Tensor | None = None,
    ) -> Float[Tensor, "b t s c"]:
        table = (self.scale_shift_table + modulation)[:, :, None]  # [B, u, 1, 6, C]
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = table.unbind(3)
        attended = self.attn(modulate(x, shift_attn, scale_attn), rotation)
        x = x + self.drop_path(gate_attn * attended)
        x = x + self.cross_attn(x, caption, caption_mask)
        mixed = self.mlp(modulate(x, shift_mlp, scale_mlp))
        return x + self.drop_path(gate_mlp * mixed)


class FinalLayer(nn.Module):
    """Modulated norm and projection to patches."""

    def __init__(self, hidden_size: int, out_features: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, out_features)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)

    def forward(
        self,
        x: Float[Tensor, "b t s c"],
        embedding: Float[Tensor, "b c"],
        clean_embedding: Float[Tensor, "b c"] | None,
        x_mask: Bool[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t s o"]:
        """Frames where ``x_mask`` is False use ``clean_embedding``, that of timestep 0.

        As in Open-Sora v1.2 these frames are modulated twice: first with ``embedding``, then, from
        that result, with ``clean_embedding``. The released weights were trained so.
        """
        x = self._modulate(x, embedding)
        if x_mask is not None and clean_embedding is not None:
            clean = self._modulate(x, clean_embedding)
            x = torch.where(x_mask[:, :, None, None], x, clean)
        return self.linear(x)

    def _modulate(self, x: Tensor, embedding: Tensor) -> Tensor:
        table = self.scale_shift_table + embedding[:, None]  # [B, 2, C]
        shift, scale = table[:, None, None].unbind(3)  # [B, 1, 1, C]
        return modulate(x, shift, scale)
