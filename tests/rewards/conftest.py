from __future__ import annotations

import pytest
import torch

from pisa.types import Batch

FRAMES, SIZE = 3, 8


@pytest.fixture
def batch() -> Batch:
    """Two clips of 3 frames; object 0 is padding in clip 0, the last is red and moves down."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 2, FRAMES, SIZE, SIZE, dtype=torch.bool)
    for t in range(FRAMES):
        masks[:, 1, t, t : t + 3, 5:8] = True
        masks[1, 0, t, 4:7, 0:3] = True
    video = 0.2 * torch.rand(2, 3, FRAMES, SIZE, SIZE, generator=generator)
    video[:, 0] = masks.any(dim=1).float() * 2 - 1
    return Batch(
        names=("a", "b"),
        video=video,
        masks=masks,
        captions=("", ""),
        fps_hz=16.0,
        drop_height_m=torch.full((2,), torch.nan),
    )
