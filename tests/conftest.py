"""Shared by all tests: one thread, and shapes checked at run time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when imported; without it: five attempts

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

from tests.local_server import Served, serving

torch.set_num_threads(1)
torch.set_flush_denormal(True)
install_import_hook(
    [
        "pisa.ops.masks",
        "pisa.ops.camera",
        "pisa.diffusion",
        "pisa.models.opensora",
        "pisa.models.tiny_denoiser",
        "pisa.rewards",
        "pisa.simulation",
    ],
    "beartype.beartype",
)


@pytest.fixture
def bucket() -> Iterator[tuple[str, type[Served]]]:
    """A local server's address, and its handler with the files it serves."""
    with serving() as found:
        yield found
