"""Clip and batch types, and the conventions every module shares.

Conventions (stated here once; only adapters convert):

* **Colour**: float videos lie in ``[-1, 1]``; on disk they are uint8 in ``[0, 255]``.
* **Layout**: videos are ``[B, 3, T, H, W]``, masks ``[B, N, T, H, W]``, depth ``[B, T, H, W]``,
  flow ``[B, 2, T-1, H, W]``. Single clips drop the ``B``.
* **Pixels**: origin at the top left, ``x`` to the right, ``y`` downwards. Pixel centres are at
  integer coordinates.
* **World**: metres, right-handed, ``z`` up, floor at ``z = 0``, gravity ``(0, 0, -9.81)``.
* **Flow**: forward, frame ``t`` to ``t + 1``, channels ``(dx, dy)`` in pixels.
* **Depth**: Euclidean distance from the camera centre in metres (as Kubric gives it).
* **Dropping object**: the last object of a simulated clip (as in the paper's release).
* **Noise level**: ``s`` in ``[0, 1]``, 1 is pure noise; ``x_s = (1 - s) x_0 + s noise``; velocity
  ``u = dx_s / ds = noise - x_0`` (the convention of diffusers' flow-matching schedulers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pisa.errors import PisaError

GRAVITY_M_S2 = 9.81


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera that looks along world +y (paper Appendix D, K).

    ``position_m`` is the camera centre in world metres. The image is square in angle per pixel:
    ``focal_px = focal_mm / sensor_mm * width``.
    """

    position_m: tuple[float, float, float]
    height: int
    width: int
    focal_mm: float = 35.0
    sensor_mm: float = 32.0

    @property
    def focal_px(self) -> float:
        return self.focal_mm / self.sensor_mm * self.width


@dataclass(frozen=True)
class Poses:
    """Rigid poses of N objects over T frames: metres, unit quaternions (x, y, z, w)."""

    position_m: Float[Tensor, "t n 3"]
    quaternion: Float[Tensor, "t n 4"]


@dataclass(frozen=True)
class ObjectPoints:
    """Clicks (x, y) in pixels on an object and, where that is unclear, beside it."""

    positive: tuple[tuple[float, float], ...]
    negative: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Clip:
    """One clip in memory. Optional fields are None where the source has no such truth."""

    name: str
    video: Float[Tensor, "3 t h w"]  # [-1, 1]
    masks: Bool[Tensor, "n t h w"]
    fps_hz: float
    caption: str = ""
    dropping_index: int = -1
    depth_m: Float[Tensor, "t h w"] | None = None
    flow_px: Float[Tensor, "2 u h w"] | None = None  # u = t - 1
    backward_flow_px: Float[Tensor, "2 u h w"] | None = None  # on frame u + 1: its way from u
    camera: Camera | None = None
    poses: Poses | None = None
    drop_height_m: float | None = None  # fall distance of the dropping object's lowest point
    drop_depth_m: float | None = None  # of the dropping object in frame 0, along the view axis
    points: ObjectPoints | None = None  # annotated ones of the dropping object in frame 0


@dataclass(frozen=True)
class Batch:
    """Clips of one data set, stacked; masks padded with empty objects at the front.

    The dropping object is always the last of the N masks after collation.
    """

    names: tuple[str, ...]
    video: Float[Tensor, "b 3 t h w"]  # [-1, 1]
    masks: Bool[Tensor, "b n t h w"]
    captions: tuple[str, ...]
    fps_hz: float
    drop_height_m: Float[Tensor, " b"]  # NaN where unknown
    depth_m: Float[Tensor, "b t h w"] | None = None
    flow_px: Float[Tensor, "b 2 u h w"] | None = None
    points: tuple[ObjectPoints | None, ...] = ()  # of the dropping objects; empty: none is known
    px_per_m: Float[Tensor, " b"] | None = None  # scale at the dropping object; NaN where unknown

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on ``device``."""
        moved = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)

    def frames(self, chosen: slice | Int[Tensor, " k"]) -> Batch:
        """The same clips at the chosen frames; flow stays only where the frames are consecutive.

        Raises:
            PisaError: the slice ends behind the last frame.
        """
        length = self.video.shape[2]
        flow = None
        if isinstance(chosen, slice):
            start, stop = chosen.start or 0, length if chosen.stop is None else chosen.stop
            if stop > length:
                raise PisaError(f"clips have {length} frames, cannot take {stop}")
            chosen = slice(start, stop)
            # flow u leads from frame u to u + 1
            flow = None if self.flow_px is None else self.flow_px[:, :, start : stop - 1]
        return replace(
            self,
            video=self.video[:, :, chosen],
            masks=self.masks[:, :, chosen],
            depth_m=None if self.depth_m is None else self.depth_m[:, chosen],
            flow_px=flow,
        )

    def clips(self, chosen: slice | Int[Tensor, " k"]) -> Batch:
        """The chosen clips with everything that belongs to them; an index may come twice."""
        rows = range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        cut: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                cut[f.name] = value[chosen]
            elif isinstance(value, tuple) and value:  # no points: none is known
                cut[f.name] = tuple(value[row] for row in rows)
        return replace(self, **cut)

    @property
    def first_frame(self) -> Float[Tensor, "b 3 h w"]:
        return self.video[:, :, 0]

    @property
    def first_masks(self) -> Bool[Tensor, "b n h w"]:
        return self.masks[:, :, 0]


@dataclass(frozen=True)
class Condition:
    """Text conditioning: token embeddings and which tokens are real.

    ``null`` marks rows whose embedding the network replaces by a null prompt that it learns.

    ``image`` is what some models take of the first frame beside the latents: tensors by name, one
    row per clip (``VideoModel.with_first_frame``).
    """

    embedding: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]
    null: Bool[Tensor, " b"] | None = None
    image: Mapping[str, Tensor] = field(default_factory=dict)


def collate(clips: Sequence[Clip]) -> Batch:
    """Stack clips of equal size and length; pads masks so that the dropping object comes last.

    Raises ``PisaError`` for clips of different kinds, ``ValueError`` for none.
    """
    if not clips:
        raise ValueError("cannot collate zero clips")
    for clip in clips[1:]:
        if (clip.video.shape, clip.fps_hz) != (clips[0].video.shape, clips[0].fps_hz):
            raise PisaError(
                f"clips of one data set must agree: {clips[0].name} is {_kind(clips[0])}, "
                f"{clip.name} is {_kind(clip)}"
            )
    num_objects = max(clip.masks.shape[0] for clip in clips)
    depth = [clip.depth_m for clip in clips if clip.depth_m is not None]
    flow = [clip.flow_px for clip in clips if clip.flow_px is not None]
    height = [float("nan") if c.drop_height_m is None else c.drop_height_m for c in clips]
    return Batch(
        names=tuple(clip.name for clip in clips),
        video=torch.stack([clip.video for clip in clips]),
        masks=torch.stack([_dropping_last(clip, num_objects) for clip in clips]),
        captions=tuple(clip.caption for clip in clips),
        fps_hz=clips[0].fps_hz,
        drop_height_m=torch.tensor(height, dtype=torch.float32),
        depth_m=torch.stack(depth) if len(depth) == len(clips) else None,
        flow_px=torch.stack(flow) if len(flow) == len(clips) else None,
        points=tuple(clip.points for clip in clips),
        px_per_m=torch.tensor([_px_per_m(clip) for clip in clips], dtype=torch.float32),
    )


def _px_per_m(clip: Clip) -> float:
    if clip.camera is None or clip.drop_depth_m is None:
        return float("nan")
    return clip.camera.focal_px / clip.drop_depth_m


def _kind(clip: Clip) -> str:
    frames, height, width = clip.video.shape[1:]
    return f"{frames} frames of {height}x{width} at {clip.fps_hz:g} Hz"


def _dropping_last(clip: Clip, num_objects: int) -> Bool[Tensor, "n t h w"]:
    drop = clip.dropping_index % clip.masks.shape[0]
    order = [i for i in range(clip.masks.shape[0]) if i != drop] + [drop]
    padded = clip.masks.new_zeros(num_objects, *clip.masks.shape[1:])
    padded[num_objects - len(order) :] = clip.masks[order]
    return padded
