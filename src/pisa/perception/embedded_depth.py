"""A small per-frame network for relative inverse depth of 64x64 clips."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from pisa.perception.base import UNetTrunk, load_teacher, per_frame


class EmbeddedDepth(nn.Module):
    """U-Net from a frame and its pixel coordinates to inverse depth in 1/m, non-negative.

    Trained on one camera model, so its scale is close to metric there; callers take it as
    relative. Height and width are multiples of 8.
    """

    shipped_weights: ClassVar[str] = "embedded_depth.safetensors"  # in pisa/weights

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(5, width, 4, stride=2, padding=1)
        self.trunk = UNetTrunk(width)
        self.expand = nn.ConvTranspose2d(width, 8, 2, stride=2)
        self.mix = nn.Conv2d(8 + 5, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> EmbeddedDepth:
        """Frozen network with the weights in ``path`` (None: those shipped in the package)."""
        return load_teacher(cls(), "embedded_depth", path)

    def depth(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t h w"]:
        """Inverse depth; larger is nearer."""
        frames = with_coordinates(per_frame(video))
        features = self.trunk(F.silu(self.stem(frames)))
        fine = self.expand(F.silu(features))
        inverse = F.softplus(self.head(F.silu(self.mix(torch.cat([fine, frames], dim=1)))))
        return rearrange(inverse, "(b t) 1 h w -> b t h w", b=video.shape[0])


def with_coordinates(frames: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m 5 h w"]:
    """Append x and y in [-1, 1] as channels."""
    height, width = frames.shape[-2:]
    y = torch.linspace(-1, 1, height, device=frames.device, dtype=frames.dtype)
    x = torch.linspace(-1, 1, width, device=frames.device, dtype=frames.dtype)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1])
    return torch.cat([frames, grid.expand(len(frames), -1, -1, -1)], dim=1)
