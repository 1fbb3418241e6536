"""What ORO needs of a reward."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pisa.types import Batch


@runtime_checkable
class Reward(Protocol):
    """An ``nn.Module`` that scores generated clips against the clips they should equal.

    The gradient flows to the generated clips only: ground truth is seen without gradient and
    teachers are frozen.
    """

    name: str

    def __call__(self, generated: Float[Tensor, "b 3 t h w"], batch: Batch) -> Float[Tensor, " b"]:
        """Higher is better; ``generated`` is nominally in [-1, 1]."""
        ...
