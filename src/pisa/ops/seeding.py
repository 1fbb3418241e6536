"""Random streams that depend on nothing but names and counters, so that a resume repeats them.

Every draw comes from a CPU generator seeded by a hash of what it is for; the samples are moved to
the device afterwards. The same run on another device, or resumed in the middle, draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


def generator_of(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by ``parts``, e.g. ``(seed, "train", step)``."""
    return torch.Generator().manual_seed(_seed_of(parts))


@contextmanager
def default_generator_of(device: torch.device, *parts: int | str) -> Iterator[None]:
    """torch's default generators seeded by ``parts`` within the block, and restored after it.

    For code that takes no generator. A GPU draws other numbers than the CPU.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_seed_of(parts))
        yield


def _seed_of(parts: Sequence[int | str]) -> int:
    digest = hashlib.sha256(repr(tuple(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def clip_noise(
    names: Sequence[str], seed: int, latent_shape: tuple[int, int, int, int]
) -> Float[Tensor, "b c f i j"]:
    """Gaussian noise that belongs to the clip and the seed, whatever the batch around it."""
    return torch.stack(
        [torch.randn(latent_shape, generator=generator_of(seed, "clip", name)) for name in names]
    )
