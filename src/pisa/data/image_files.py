"""Single images as uint8 RGB, and folders of numbered frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pisa.data.clip_info import number, read_info
from pisa.errors import PisaError, reason

_NUMBERED = re.compile(r"(.*?)(\d+)\.(png|jpe?g)", re.IGNORECASE)
_PREFERRED = ("rgba_", "")  # prefixes of the release's frames, before depth_, flow_ ...
IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # told by content, not by extension
MAX_PIXELS = 36_000_000  # of a frame; 8K is 33 million


def read_image(path: Path, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image file; its declared size is checked before a pixel is decoded.

    Raises ``PisaError`` naming the file when it is broken or larger than ``max_pixels``.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image.width, image.height, max_pixels, path)
            return np.asarray(to_rgb(image))
    except IMAGE_ERRORS as error:
        raise PisaError(f"{path}: cannot read frame: {reason(error)}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright as EXIF says: 16-bit values are scaled, transparency shows black.

    Raises ``ValueError`` for an animation, of which one frame would pass for the picture.
    """
    if image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False):
        raise ValueError("is an animation, not a frame")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("RGB")
    return image.convert("RGB")


def check_pixels(width: int, height: int, max_pixels: int, path: Path) -> None:
    """``PisaError`` for frames without pixels, or with more than ``max_pixels``."""
    if width < 1 or height < 1:
        raise PisaError(f"{path}: declares frames of {width}x{height} px")
    if width * height > max_pixels:
        raise PisaError(
            f"{path}: declares frames of {width}x{height} px, more than the limit of "
            f"{max_pixels / 1e6:g} million pixels (source.limits.pixels_per_frame)"
        )


def _to_8_bit(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """[0, 65535] to [0, 255], rounded to nearest."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("holds values outside 16 bits")
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


_Series = tuple[str, bool]  # prefix of the names, and whether they are png


def frame_paths(folder: Path) -> list[Path]:
    """Frames 0 ... T-1 of a clip: ``rgba_00000.jpg``, else ``00000.jpg``; png only without jpg.

    Raises ``PisaError`` for a folder without frames, with a gap in their numbers, or that cannot be
    read.
    """
    series = _numbered(folder)
    found = [key for key in series if key[0] in _PREFERRED]
    if not found:
        raise PisaError(f"{folder}: holds no frames (rgba_00000.jpg or 00000.jpg ...)")
    return _in_order(folder, series[min(found, key=lambda key: (key[1], key[0] == ""))], first=0)


def folder_frames(folder: Path) -> list[Path]:
    """Frames of a video in order of their number, which may start anywhere but has no gaps.

    A folder may hold several series (``rgba_``, ``depth_`` ...): ``rgba_`` is taken, else the one
    without a prefix, else the only one. Raises ``PisaError`` for none, for gaps and for ambiguity.
    """
    series = _numbered(folder)
    if not series:
        raise PisaError(f"{folder}: holds no numbered frames (png or jpg)")
    frames = series[_choose(folder, list(series))]
    return _in_order(folder, frames, first=min(frames))


def folder_rate_hz(folder: Path) -> float:
    """``fps`` of the folder's ``clip_info.json``; ``PisaError`` where there is none."""
    rate = number(read_info(folder), "fps", folder) if has_info(folder) else None
    if rate is None or rate <= 0:
        raise PisaError(f"{folder}: frames have no rate; set source.fps_hz (clip_info.json: fps)")
    return float(rate)


def has_info(folder: Path) -> bool:
    return (folder / "clip_info.json").is_file()


def holds_frames(folder: Path) -> bool:
    """Whether a folder has any numbered png or jpg."""
    return any(_NUMBERED.fullmatch(path.name) for path in _entries(folder))


def _numbered(folder: Path) -> dict[_Series, dict[int, Path]]:
    """All series of numbered images in a folder, each by number."""
    series: dict[_Series, dict[int, Path]] = {}
    for path in _entries(folder):
        match = _NUMBERED.fullmatch(path.name)
        if match is not None:
            frames = series.setdefault((match[1], match[3].lower() == "png"), {})
            if int(match[2]) in frames:
                raise PisaError(f"{folder}: frame {int(match[2])} is there twice ({path.name})")
            frames[int(match[2])] = path
    return series


def _in_order(folder: Path, frames: dict[int, Path], first: int) -> list[Path]:
    numbers = range(first, first + len(frames))
    gap = next((i for i in numbers if i not in frames), None)
    if gap is not None:
        raise PisaError(f"{folder}: frame {gap} is missing")
    return [frames[i] for i in numbers]


def _choose(folder: Path, names: list[_Series]) -> _Series:
    for prefix in _PREFERRED:
        found = [name for name in names if name[0] == prefix]
        if len(found) == 1:
            return found[0]
    if len(names) > 1:
        listed = ", ".join(sorted(f"{p}0.{'png' if png else 'jpg'}" for p, png in names))
        raise PisaError(f"{folder}: holds several series of frames ({listed}); keep one")
    return names[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise PisaError(f"{folder}: cannot read folder: {reason(error)}") from error


def read_frames(
    paths: Sequence[Path], size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Images as uint8 ``[T, H, W, 3]`` and the ``(height, width)`` they have on disk.

    All must have one size on disk; ``size`` (height, width) rescales each as it is read (bicubic
    and antialiased, the aspect ratio is not kept: as the release's conversion does).

    Raises ``PisaError`` for a file that is no image, and for images that differ in size.
    """
    frames: NDArray[np.uint8] | None = None
    native = (0, 0)
    for i, path in enumerate(paths):
        frame = read_image(path, MAX_PIXELS)
        height, width = frame.shape[:2]
        if frames is None:
            native = (height, width)
            frames = np.empty((len(paths), *(size or native), 3), dtype=np.uint8)
        if (height, width) != native:
            raise PisaError(
                f"{path}: is {width}x{height} px, but {paths[0].name} is {native[1]}x{native[0]}"
            )
        if size is not None and size != native:
            frame = np.asarray(Image.fromarray(frame).resize((size[1], size[0])))
        frames[i] = frame
    assert frames is not None, "a clip has frames"
    return frames, native
