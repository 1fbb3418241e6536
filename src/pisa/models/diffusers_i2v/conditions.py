"""What the adapters share around a pipeline's encoders of text and image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from pisa.ops.video import to_frames
from pisa.types import Condition


@contextmanager
def visiting(
    parts: Sequence[nn.Module], device: torch.device, *, keep: bool = False
) -> Iterator[None]:
    """Frozen encoders on the device within the block; afterwards back on the CPU unless kept."""
    for part in parts:
        part.requires_grad_(False).eval().to(device)
    yield
    if not keep:
        for part in parts:
            part.to("cpu")


def every_token(embedding: Float[Tensor, "b l d"]) -> Condition:
    """A condition of which every token counts, padding too."""
    mask = torch.ones(embedding.shape[:2], dtype=torch.bool, device=embedding.device)
    return Condition(embedding, mask)


def to_images(first_frame: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """The frames, of [-1, 1], as the pipelines' image processors take them."""
    return [Image.fromarray(to_frames(frame[:, None])[0]) for frame in first_frame]
