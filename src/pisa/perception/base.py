"""The interfaces of teachers (tracker, flow, depth), and what their networks share.

Teachers take clips ``[B, 3, T, H, W]`` in ``[-1, 1]`` and are differentiable in them. A teacher
made by ``from_pretrained`` is frozen and in eval mode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.io.weights import load, shipped
from pisa.types import ObjectPoints

ALL_OBJECTS = slice(None)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
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


Prompt = Bool[Tensor, "n h w"] | Sequence[ObjectPoints]
"""Objects to track: their masks in the first frame, or points on them."""


class TrackingSession(Protocol):
    """The objects of one clip, tracked window by window."""

    def segment(self, window: Float[Tensor, "3 u h w"]) -> Float[Tensor, "n u h w"]:
        """Mask logits in the next frames of the clip."""
        ...


@runtime_checkable
class WindowTracker(Protocol):
    """Segments a clip in windows, so that not all of its frames have to be in memory."""

    def session(self, prompt: Prompt, num_frames: int) -> TrackingSession:
        """Begins a clip of ``num_frames``; windows give the same logits as the whole clip."""
        ...


class SessionTracker(nn.Module, ABC):
    """A tracker with a memory: whole clips are given to ``session`` as one window."""

    @abstractmethod
    def session(self, prompt: Prompt, num_frames: int) -> TrackingSession:
        """Begins a clip of ``num_frames``; windows give the same logits as the whole clip."""

    def segment(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first_masks: Bool[Tensor, "b n h w"],
        tracked: slice = ALL_OBJECTS,
    ) -> Float[Tensor, "b k t h w"]:
        """Mask logits at the clip's size; -20 for objects with an empty first mask.

        Objects are tracked one by one, so those outside ``tracked`` change nothing.
        """
        wanted = first_masks[:, tracked]
        return torch.stack(
            [
                self.session(masks, clip.shape[1]).segment(clip)
                for clip, masks in zip(video, wanted, strict=True)
            ]
        )

    def segment_points(
        self, video: Float[Tensor, "3 t h w"], objects: Sequence[ObjectPoints]
    ) -> Float[Tensor, "n t h w"]:
        """Mask logits of one clip at its size, from clicks in the first frame (paper H.2).

        Objects are tracked one by one. Raises ``ValueError`` for one without positive points.
        """
        return self.session(objects, video.shape[1]).segment(video)


class FirstFrameSession:
    """The session of a tracker without memory, which sees frame 0 and a few others at a time."""

    def __init__(self, tracker: Tracker, first_masks: Prompt) -> None:
        assert isinstance(first_masks, Tensor), "this tracker takes no points"
        self.tracker, self.first_masks = tracker, first_masks
        self.first: Tensor | None = None

    def segment(self, window: Float[Tensor, "3 u h w"]) -> Float[Tensor, "n u h w"]:
        begins = self.first is None
        if self.first is None:
            self.first, window = window[:, :1], window[:, 1:]
        together = max(1, _PIXELS_TOGETHER // window[0, 0].numel()) if window.numel() else 1
        found = [
            self.tracker.segment(torch.cat([self.first, few], dim=1)[None], self.first_masks[None])
            for few in window.split(together, dim=1)
        ]
        first = [found[0][0, :, :1]] if begins else []
        return torch.cat([*first, *(logits[0, :, 1:] for logits in found)], dim=1)


_PIXELS_TOGETHER = 2**18  # 64 frames of 64x64 px; one of a phone's


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


def imagenet_normalised(frames: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m 3 h w"]:
    """Frames in [-1, 1], brought to [0, 1] and standardised with ImageNet's statistics."""
    mean = frames.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = frames.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return ((frames + 1) / 2 - mean) / std


def per_frame(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b*t c h w"]:
    """Frames of all clips as one batch of images."""
    return rearrange(video, "b c t h w -> (b t) c h w")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with one group norm and SiLU, around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class UNetTrunk(nn.Module):
    """U-Net over features at half resolution: three levels of ``width``, 2x and 4x ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.half_in = ResidualBlock(width)
        self.down_quarter = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.quarter_in = ResidualBlock(2 * width)
        self.down_eighth = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.eighth = ResidualBlock(4 * width)
        self.up_quarter = nn.Conv2d(4 * width, 2 * width, 1)
        self.quarter_out = ResidualBlock(2 * width)
        self.up_half = nn.Conv2d(2 * width, width, 1)
        self.half_out = ResidualBlock(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        half = self.half_in(x)
        quarter = self.quarter_in(self.down_quarter(F.silu(half)))
        eighth = self.eighth(self.down_eighth(F.silu(quarter)))
        quarter = self.quarter_out(quarter + upsample2(self.up_quarter(F.silu(eighth))))
        return self.half_out(half + upsample2(self.up_half(F.silu(quarter))))


def upsample2(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Bilinear upsampling by two."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
