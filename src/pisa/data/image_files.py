"""Single images as uint8 RGB: any bit depth, palettes and alpha included."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pisa.types import PisaError, reason

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
    """8-bit RGB: 16-bit values are scaled, not cut off; transparency shows black behind it."""
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
