from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def falling_square() -> tuple[Tensor, Tensor]:
    """Two clips [2, 3, 4, 32, 32] of a bright square falling 2 px a frame, and masks [2, 2, ...].

    The first object of the first clip is padding.
    """
    video = 0.2 * torch.rand(2, 3, 1, 32, 32).expand(-1, -1, 4, -1, -1).clone() - 0.6
    masks = torch.zeros(2, 2, 4, 32, 32, dtype=torch.bool)
    for t in range(4):
        masks[:, 1, t, 4 + 2 * t : 12 + 2 * t, 10:18] = True
        masks[1, 0, t, 20:26, 22:30] = True
    colour = torch.tensor([0.8, -0.4, 0.2]).view(1, 3, 1, 1, 1)
    return torch.where(masks.any(dim=1)[:, None], colour, video), masks
