"""A small coarse-to-fine optical-flow network for 64x64 clips.

All-pairs softmax matching of features at 1/4 resolution, then two refinements: with a local
correlation at 1/2 resolution and with the warped next frame at full resolution.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pisa.ops.warp import sample_bilinear
from pisa.perception.base import ResidualBlock, load_teacher, per_frame, upsample2


class EmbeddedFlow(nn.Module):
    """Forward flow of consecutive frames. Height and width are multiples of 4."""

    shipped_weights: ClassVar[str] = "embedded_flow.safetensors"  # in pisa/weights

    def __init__(self, width: int = 24, radius: int = 2, correlation_width: int = 8) -> None:
        super().__init__()
        window = (2 * radius + 1) ** 2
        self.radius = radius
        self.encode_half = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1), ResidualBlock(width)
        )
        self.encode_quarter = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), ResidualBlock(2 * width)
        )
        self.log_scale = nn.Parameter(torch.tensor(2.0))  # of feature similarity
        self.log_nearness = nn.Parameter(torch.tensor(0.0))  # of the penalty on displacement
        self.match = nn.Sequential(
            nn.Conv2d(4 * width + 5, 2 * width, 3, padding=1), ResidualBlock(2 * width)
        )
        self.match_out = nn.Conv2d(2 * width, 2, 3, padding=1)
        self.project = nn.Conv2d(width, correlation_width, 1)
        self.half_in = nn.Conv2d(window + 4 * width + 2, width, 3, padding=1)
        self.half_block = ResidualBlock(width)
        self.half_out = nn.Conv2d(width, 2 + 8, 3, padding=1)
        self.full = nn.Sequential(
            nn.Conv2d(8 + 2 + 9, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 2, 3, padding=1),
        )
        _start_at_zero(self.match_out, self.half_out, self.full[-1])

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> EmbeddedFlow:
        """Frozen network with the weights in ``path`` (None: those shipped in the package)."""
        return load_teacher(cls(), "embedded_flow", path)

    def flow(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2 u h w"]:
        """Flow (dx, dy) in pixels from frame t to t + 1."""
        return self.flow_levels(video)[-1]

    def flow_levels(self, video: Float[Tensor, "b 3 t h w"]) -> list[Float[Tensor, "b 2 u h w"]]:
        """Full-size estimates after matching, after 1/2 and after full resolution."""
        batch = video.shape[0]
        half = self.encode_half(per_frame(video))
        quarter = self.encode_quarter(F.silu(half))
        half1, half2 = _pairs(half, batch)
        quarter1, quarter2 = _pairs(quarter, batch)
        hidden, coarse = self._match(quarter1, quarter2)
        hidden, middle = self._refine_half(half1, half2, hidden, coarse)
        fine = self._refine_full(
            per_frame(video[:, :, :-1]), per_frame(video[:, :, 1:]), hidden, middle
        )
        levels = [_scale_up(_scale_up(coarse)), _scale_up(middle), fine]
        return [rearrange(level, "(b u) c h w -> b c u h w", b=batch) for level in levels]

    def _match(
        self, first: Float[Tensor, "m c i j"], second: Float[Tensor, "m c i j"]
    ) -> tuple[Float[Tensor, "m c i j"], Float[Tensor, "m 2 i j"]]:
        """Softmax matching over all positions, corrected by a few convolutions (1/4 px).

        Far positions are penalised by the square of their distance, which keeps the untrained
        estimate near zero.
        """
        size = first.shape[-2:]
        grid = _grid(first)
        query, key = (F.normalize(x, dim=1).flatten(2) for x in (first, second))
        far = 0.1 * torch.cdist(grid.flatten(1).T, grid.flatten(1).T).square()
        similarity = torch.einsum("mcp,mcq->mpq", query, key) * self.log_scale.exp()
        weights = (similarity - self.log_nearness.exp() * far).softmax(dim=-1)
        target = torch.einsum("mpq,cq->mcp", weights, grid.flatten(1))
        matched = torch.einsum("mpq,mcq->mcp", weights, second.flatten(2)).unflatten(2, size)
        flow = target.unflatten(2, size) - grid
        peak = weights.amax(dim=-1)[:, None].unflatten(2, size)
        extra = [flow, peak, grid.expand(len(flow), -1, -1, -1) * 0.1]
        hidden = self.match(torch.cat([first, matched - first, *extra], dim=1))
        return hidden, flow + self.match_out(F.silu(hidden))

    def _refine_half(
        self,
        first: Float[Tensor, "m c i j"],
        second: Float[Tensor, "m c i j"],
        hidden: Float[Tensor, "m d k l"],
        coarse: Float[Tensor, "m 2 k l"],
    ) -> tuple[Float[Tensor, "m 8 i j"], Float[Tensor, "m 2 i j"]]:
        """Flow at 1/2 resolution (1/2 px) from a local correlation of warped features."""
        flow = _scale_up(coarse)
        warped = warp(second, flow)
        cost = local_correlation(self.project(first), self.project(warped), self.radius)
        inputs = torch.cat([cost, first, warped - first, upsample2(hidden), flow], dim=1)
        update = self.half_out(F.silu(self.half_block(self.half_in(inputs))))
        return update[:, 2:], flow + update[:, :2]

    def _refine_full(
        self,
        first: Float[Tensor, "m 3 h w"],
        second: Float[Tensor, "m 3 h w"],
        hidden: Float[Tensor, "m 8 i j"],
        middle: Float[Tensor, "m 2 i j"],
    ) -> Float[Tensor, "m 2 h w"]:
        """Flow at full resolution (px) from the frames and the warped next frame."""
        flow = _scale_up(middle)
        warped = warp(second, flow)
        frames = [first, second - first, warped - first]
        return flow + self.full(torch.cat([upsample2(hidden), flow, *frames], dim=1))


def warp(
    image: Float[Tensor, "m c h w"], flow: Float[Tensor, "m 2 h w"]
) -> Float[Tensor, "m c h w"]:
    """``image`` sampled bilinearly at ``x + flow(x)``; borders repeat."""
    height, width = image.shape[-2:]
    size = torch.tensor(
        [max(width - 1, 1), max(height - 1, 1)], device=flow.device, dtype=flow.dtype
    )
    position = rearrange(_grid(flow) + flow, "m c h w -> m h w c") * (2 / size) - 1
    return sample_bilinear(image, position, align_corners=True)


def local_correlation(
    first: Float[Tensor, "m c h w"], second: Float[Tensor, "m c h w"], radius: int
) -> Float[Tensor, "m k h w"]:
    """Mean feature product of each pixel with the (2 radius + 1)^2 pixels around it in second."""
    height, width = first.shape[-2:]
    padded = F.pad(second, (radius,) * 4)
    span = range(2 * radius + 1)
    shifts = [padded[:, :, y : y + height, x : x + width] for y in span for x in span]
    return torch.cat([(first * shift).mean(dim=1, keepdim=True) for shift in shifts], dim=1)


def _pairs(features: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Features [(b t), c, i, j] of the first and of the second frame of every pair."""
    clips = rearrange(features, "(b t) c i j -> b t c i j", b=batch)
    return clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)


def _grid(like: Float[Tensor, "m c h w"]) -> Float[Tensor, "2 h w"]:
    """Pixel coordinates (x, y)."""
    y = torch.arange(like.shape[-2], device=like.device, dtype=like.dtype)
    x = torch.arange(like.shape[-1], device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1])


def _scale_up(flow: Float[Tensor, "m 2 h w"]) -> Float[Tensor, "m 2 2*h 2*w"]:
    return 2 * upsample2(flow)


def _start_at_zero(*layers: nn.Module) -> None:
    """Zero the first two output channels, the flow, so that training starts from the matching."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        nn.init.zeros_(layer.weight[:2])
