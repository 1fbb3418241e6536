from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def provenance_part() -> dict[str, Any]:
    return {
        "commit": "c0ffee",
        "config_sha256": "00",
        "data_sha256": None,
        "seed": 3,
        "versions": {"torch": "2", "diffusers": None},
    }


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Two models, four clips, one split; PSFT is better on every clip by a known amount."""
    return [
        {"model": model, "split": "sim_seen", "clip": f"clip_{i}", "seed": 0, "frames": 16}
        | {"l2": level + 0.01 * i, "chamfer": 2 * level, "iou": 0.5 - level}
        for model, level in (("psft", 0.1), ("base", 0.3))
        for i in range(4)
    ]


@pytest.fixture(scope="session")
def moving_square() -> Callable[..., dict[str, np.ndarray]]:
    """Makes clips of a red 6 px square that falls on grey; frames uint8 and masks bool."""
    return _moving_square


def _moving_square(
    *, start_x: int, fall_px: float, num_frames: int = 8, size: int = 32
) -> dict[str, np.ndarray]:
    frames = np.full((num_frames, size, size, 3), 120, dtype=np.uint8)
    masks = np.zeros((num_frames, size, size), dtype=bool)
    for t in range(num_frames):
        top = min(size - 6, int(fall_px * t))
        masks[t, top : top + 6, start_x : start_x + 6] = True
        frames[t][masks[t]] = (220, 40, 40)
    return {"frames": frames, "mask": masks}
