"""What rewards need of a teacher, and how the packaged teachers find their weights.

Teachers take clips ``[B, 3, T, H, W]`` in ``[-1, 1]`` and are differentiable in them. A teacher
made by ``from_pretrained`` is frozen and in eval mode.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pisa.io.weights import check_values
from pisa.types import PisaError

ALL_OBJECTS = slice(None)
EXPERIMENTS = {  # that train the packaged teachers
    "embedded_flow": "teacher_flow",
    "embedded_depth": "teacher_depth",
    "embedded_segmentation": "teacher_tracker",
}
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


def load_packaged(module: _Module, name: str, path: str | Path | None) -> _Module:
    """Load ``path`` (None: the packaged ``weights/<name>.safetensors``) and freeze the module.

    Raises:
        PisaError: the file is missing, unreadable or holds other tensors than the module.
    """
    source = Path(path) if path is not None else _packaged_path(name)
    if not source.is_file():
        raise PisaError(
            f"weights of the {name} teacher not found: {source}. Train them with "
            f"`python train.py experiment={EXPERIMENTS[name]}` or pass a file as `path`."
        )
    try:
        state = load_file(source)
        check_values(module.state_dict(), state, str(source))
        module.load_state_dict({key: value.float() for key, value in state.items()})
    except (SafetensorError, RuntimeError) as error:
        raise PisaError(
            f"{source} does not hold weights of {type(module).__name__}: {error}"
        ) from error
    return freeze(module)


def _packaged_path(name: str) -> Path:
    return Path(str(resources.files("pisa") / "weights" / f"{name}.safetensors"))


def load_pickled(module: nn.Module, path: str | Path, name: str) -> None:
    """Load a ``.pt``/``.pth`` state dict, plain or under the key ``model``.

    Raises:
        PisaError: the file is missing, unreadable or holds other tensors than the module.
    """
    source = Path(path)
    if not source.is_file():
        raise PisaError(f"{name} weights not found: {source}")
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        state = state.get("model", state)
        check_values(module.state_dict(), state, str(source))
        module.load_state_dict(state)
    except (RuntimeError, pickle.UnpicklingError, AttributeError, EOFError) as error:
        raise PisaError(f"{source} does not hold {name} weights: {error}") from error
