"""The masks of one video with the number and time of every frame, as mask.npz and in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray
from PIL import Image

from pisa.data.clip_info import fps_of, read_info
from pisa.data.image_files import frame_paths, has_info
from pisa.data.mask_files import (
    MAX_BYTES,
    check_axes,
    read_arrays,
    read_mask_array,
    to_bool,
    write_mask_file,
)
from pisa.errors import PisaError


@dataclass(frozen=True)
class MaskVideo:
    """Masks of N objects in T annotated frames, which may be some of the video's only.

    ``frames`` are the frames' numbers in the video (rising, from 0); ``times_s`` when they are
    shown, None if that is unknown. An object that is not seen in a frame has an empty mask there.
    """

    masks: Bool[np.ndarray, "t n h w"]
    frames: tuple[int, ...]
    objects: tuple[str, ...]  # a label each; two objects may share one
    times_s: tuple[float, ...] | None = None
    name: str = "video"

    def __post_init__(self) -> None:
        found = (len(self.frames), len(self.objects))
        if found != self.masks.shape[:2]:
            raise PisaError(
                f"{self.name}: masks of {self.masks.shape[0]} frames and {self.masks.shape[1]} "
                f"objects, but {found[0]} frame numbers and {found[1]} labels"
            )
        if self.times_s is not None and len(self.times_s) != len(self.frames):
            raise PisaError(f"{self.name}: {len(self.times_s)} times for {found[0]} frames")
        if any(b <= a for a, b in zip((-1, *self.frames), self.frames, strict=False)):
            raise PisaError(f"{self.name}: frame numbers must rise from 0 or more")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.masks.shape[2], self.masks.shape[3]


def empty_masks(shape: tuple[int, int, int, int], source: Path) -> NDArray[np.bool_]:
    """Masks ``[T, N, H, W]`` to be filled. Raises ``PisaError`` for absurd sizes."""
    if min(shape) < 1:
        raise PisaError(f"{source}: holds no masks (frames, objects, height, width: {shape})")
    size = shape[0] * shape[1] * shape[2] * shape[3]  # of Python's integers, which don't overflow
    if size > MAX_BYTES:
        raise PisaError(f"{source}: declares {size / 2**30:.1f} GiB of masks, more than the limit")
    return np.zeros(shape, dtype=bool)


def numbered_labels(count: int) -> tuple[str, ...]:
    """Labels for objects that have none."""
    return tuple(f"object_{index + 1}" for index in range(count))


def read_npz(path: Path) -> MaskVideo:
    """A clip folder, or a ``.npz`` or ``.npy`` of masks.

    Frames are numbered from 0 unless an array ``frame`` says otherwise; times come from an array
    ``time_s``, or from the frame rate of the clip.
    """
    clip = path if path.is_dir() else path.parent
    if path.is_dir():
        path = next((p for p in (path / "mask.npz", path / "mask.npy") if p.is_file()), path)
        if path.is_dir():
            raise PisaError(f"{path}: holds no mask.npz")
    array = read_mask_array(path)
    check_axes(array, path)
    masks = to_bool(array if array.ndim == 4 else array[:, None], path)
    known = read_arrays(path, ("frame", "time_s", "object")) if path.suffix == ".npz" else {}
    try:
        frames = tuple(int(n) for n in known.get("frame", range(len(masks))))
        times_s = tuple(float(t) for t in known["time_s"]) if "time_s" in known else None
    except (TypeError, ValueError) as error:
        raise PisaError(f"{path}: frame and time_s must be lists of numbers") from error
    if times_s is None and has_info(clip):
        fps_hz = fps_of(read_info(clip), frame_paths(clip)[0])
        times_s = tuple(n / fps_hz for n in frames)
    labels = tuple(str(n) for n in known.get("object", numbered_labels(masks.shape[1])))
    return MaskVideo(masks, frames, labels, times_s, clip.name if has_info(clip) else path.stem)


def write_npz(video: MaskVideo, path: Path) -> None:
    """A ``.npz`` with arrays ``mask``, ``frame``, ``object`` and, if known, ``time_s``.

    ``path`` may be a clip folder, whose ``mask.npz`` is written. Raises ``PisaError`` unless the
    masks then are those of all its frames, at their size.
    """
    if path.is_dir():
        _check_fits(video, path)
        path = path / "mask.npz"
    extra: dict[str, NDArray] = {"frame": np.array(video.frames), "object": np.array(video.objects)}
    if video.times_s is not None:
        extra["time_s"] = np.array(video.times_s)
    write_mask_file(path, video.masks, video.masks.shape, extra)


def _check_fits(video: MaskVideo, clip: Path) -> None:
    paths = frame_paths(clip)
    with Image.open(paths[0]) as image:
        size = (image.height, image.width)
    if video.size != size:
        raise PisaError(
            f"{clip}: its frames are {size[1]}x{size[0]} px, the masks "
            f"{video.size[1]}x{video.size[0]}; annotate the clip's own frames"
        )
    if video.frames != tuple(range(len(paths))):
        raise PisaError(
            f"{clip}: has frames 0 to {len(paths) - 1}, the masks are those of {len(video.frames)} "
            f"frames from {video.frames[0]} to {video.frames[-1]}; a clip needs masks of all frames"
        )
