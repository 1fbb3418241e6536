"""Bilinear sampling of images that is safe for positions that are not finite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def warp(
    image: Float[Tensor, "n c h w"], flow_px: Float[Tensor, "n 2 h w"]
) -> Float[Tensor, "n c h w"]:
    """``image`` sampled at each pixel plus ``flow_px`` (x, y), bilinearly; edges repeat."""
    height, width = image.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device),
        torch.arange(width, device=image.device),
        indexing="ij",
    )
    at = torch.stack([x, y], dim=-1) + flow_px.movedim(1, -1)
    size = torch.tensor([width, height], device=image.device)
    return sample_bilinear(image, (2 * at + 1) / size - 1, align_corners=False)


def sample_bilinear(
    image: Float[Tensor, "n c h w"], grid: Float[Tensor, "n i j 2"], *, align_corners: bool
) -> Float[Tensor, "n c i j"]:
    """``grid_sample`` with repeated borders; NaN where the position (x, y) is not finite.

    With ``padding_mode="border"`` torch 2.x reads a NaN position as a finite one on the CPU and, in
    backward, writes to an address outside the image: a segmentation fault.
    """
    finite = torch.isfinite(grid).all(dim=-1, keepdim=True)  # [n, i, j, 1]
    safe = torch.where(finite, grid, torch.zeros_like(grid))
    found = F.grid_sample(image, safe, padding_mode="border", align_corners=align_corners)
    return found.masked_fill(~finite.movedim(-1, 1), float("nan"))
