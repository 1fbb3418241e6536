"""A map-style dataset over the clips of one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.ops.video import from_uint8, to_uint8
from pisa.types import Clip


class ClipDataset(Dataset[Clip]):
    """Clips of ``folder`` (see ``list_clips``), read as ``read_clip`` does.

    With ``cache`` each clip is read from disk once per process and kept as uint8, bool and float16
    (depth loses nothing, it is float16 on disk; flow is rounded to 1/64 px below 32 px, with or
    without the cache). With ``horizontal_flip`` there are twice as many items: item ``n + i``
    mirrors item ``i``. ``num_clips`` keeps the first so many.
    """

    def __init__(
        self,
        folder: Path | str,
        num_frames: int | None = None,
        frame_stride: int = 1,
        depth: bool = False,
        flow: bool = False,
        cache: bool = True,
        horizontal_flip: bool = False,
        num_clips: int | None = None,
        fps_hz: float | None = None,
        size: tuple[int, int] | None = None,
        allow_short: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.paths = list_clips(self.folder)[:num_clips]
        self.num_frames, self.frame_stride, self.fps_hz = num_frames, frame_stride, fps_hz
        self.depth, self.flow, self.size, self.allow_short = depth, flow, size, allow_short
        self.horizontal_flip = horizontal_flip
        self._cache: dict[int, Clip] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.paths) * (2 if self.horizontal_flip else 1)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        mirrored, which = divmod(index, len(self.paths))
        packed = self._packed(which)
        return _unpack(flip_horizontally(packed) if mirrored else packed)  # bytes flip faster

    def _packed(self, which: int) -> Clip:
        if self._cache is not None and which in self._cache:
            return self._cache[which]
        clip = read_clip(
            self.paths[which],
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            fps_hz=self.fps_hz,
            size=self.size,
            allow_short=self.allow_short,
            flow=self.flow,
            depth=self.depth,
        )
        packed = _pack(clip)
        if self._cache is not None:
            self._cache[which] = packed
        return packed


def flip_horizontally(clip: Clip) -> Clip:
    """The mirror image; flow changes the sign of dx. Camera, poses and points are dropped."""
    flow = clip.flow_px
    if flow is not None:
        flow = flow.flip(-1) * flow.new_tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    return replace(
        clip,
        video=clip.video.flip(-1),
        masks=clip.masks.flip(-1),
        depth_m=None if clip.depth_m is None else clip.depth_m.flip(-1),
        flow_px=flow,
        camera=None,
        poses=None,
        points=None,
    )


def _pack(clip: Clip) -> Clip:
    return replace(
        clip,
        video=to_uint8(clip.video),
        depth_m=None if clip.depth_m is None else clip.depth_m.to(torch.float16),
        flow_px=None if clip.flow_px is None else clip.flow_px.to(torch.float16),
    )


def _unpack(packed: Clip) -> Clip:
    return replace(
        packed,
        video=from_uint8(packed.video),
        masks=packed.masks.clone(),
        depth_m=None if packed.depth_m is None else packed.depth_m.float(),
        flow_px=None if packed.flow_px is None else packed.flow_px.float(),
    )
