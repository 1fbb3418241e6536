"""Colour ranges that teachers expect."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_normalised(frames: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m 3 h w"]:
    """Frames in [-1, 1], brought to [0, 1] and standardised with ImageNet's statistics."""
    mean = frames.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = frames.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return ((frames + 1) / 2 - mean) / std
