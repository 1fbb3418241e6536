"""The interfaces of teachers (tracker, flow, depth), and what their networks share.

Teachers take clips ``[B, 3, T, H, W]`` in ``[-1, 1]`` and are differentiable in them. A teacher
made by ``from_pretrained`` is frozen and in eval mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.io.weights import load, shipped

ALL_OBJECTS = slice(None)
_Module = TypeVar("_Module", bound=nn.Module)


@runtime_checkable
class Tracker(Protocol):
    """Segments given first-frame objects through a clip."""

    def segment(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first_masks: Bool[Tensor, "b n h w"],
        tracked: slice = ALL_OBJECTS,
    ) -> Float[Tensor, "b k t h w"]:
        """Mask logits of the objects in ``tracked``, k of n.

        The other objects are given because a tracker may need them to tell objects apart. An
        empty first mask gives negative logits everywhere.
        """
        ...


@runtime_checkable
class PointTracker(Protocol):
    """Segments objects that are given by points in the first frame."""

    def segment_points(
        self, video: Float[Tensor, "3 t h w"], objects: Sequence[ObjectPoints]
    ) -> Float[Tensor, "n t h w"]:
        """Mask logits of one clip, one object per entry of ``objects``."""
        ...


@dataclass(frozen=True)
class ObjectPoints:
    """Clicks (x, y) in pixels on an object and, where that is unclear, beside it."""

    positive: tuple[tuple[float, float], ...]
    negative: tuple[tuple[float, float], ...] = ()


@runtime_checkable
class FlowEstimator(Protocol):
    """Estimates forward optical flow."""

    def flow(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2 u h w"]:
        """Flow (dx, dy) in pixels from frame t to t + 1; u = t - 1."""
        ...


@runtime_checkable
class DepthEstimator(Protocol):
    """Estimates relative inverse depth."""

    def depth(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t h w"]:
        """Relative inverse depth: larger is nearer, scale and shift are free."""
        ...


def freeze(module: _Module) -> _Module:
    """The same module in eval mode, its parameters without gradient."""
    return module.requires_grad_(False).eval()


def load_teacher(module: _Module, name: str, path: str | Path | None) -> _Module:
    """Load ``path`` (None: the shipped ``weights/<name>.safetensors``) and freeze the module.

    Raises:
        PisaError: the file is missing, unreadable or holds other tensors than the module.
    """
    return freeze(load(module, shipped(name) if path is None else path))
