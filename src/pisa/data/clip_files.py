"""Readers of the single files of a clip folder; every failure is a PisaError that names the file.

The layout is described in docs/data_format.md.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pisa.data.image_files import IMAGE_ERRORS, to_rgb
from pisa.types import PisaError, reason

_FRAME_NAME = re.compile(r"(rgba_)?(\d{5})\.(jpg|jpeg|png)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARRAY_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    MemoryError,
    NotImplementedError,
    RuntimeError,  # encrypted zip member
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def check_name(name: str) -> str:
    """The name itself if it is a plain one (letters, digits, ``. _ -``); else ``PisaError``."""
    if not _PLAIN_NAME.fullmatch(name):
        raise PisaError(f"{name!r} is no plain name (letters, digits, '.', '_' and '-' only)")
    return name


def frame_paths(folder: Path) -> list[Path]:
    """Frames 0 ... T-1: ``rgba_00000.jpg``, else ``00000.jpg``; ``.png`` only without ``.jpg``.

    Raises ``PisaError`` for a folder without frames, with a gap in their numbers, or that cannot be
    read.
    """
    families: dict[tuple[bool, bool], dict[int, str]] = {}
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise PisaError(f"{folder}: cannot read clip folder: {error.strerror}") from error
    for name in names:
        if match := _FRAME_NAME.fullmatch(name):
            family = (match[3] == "png", match[1] is None)
            families.setdefault(family, {})[int(match[2])] = name
    if not families:
        raise PisaError(f"{folder}: holds no frames (rgba_00000.jpg or 00000.jpg ...)")
    frames = families[min(families)]
    missing = next((i for i in range(len(frames)) if i not in frames), None)
    if missing is not None:
        raise PisaError(f"{folder}: frame {missing:05d} is missing")
    return [folder / frames[i] for i in range(len(frames))]


def read_frames(
    paths: Sequence[Path], size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Images as uint8 ``[T, H, W, 3]`` and the ``(height, width)`` they have on disk.

    All must have one size on disk; ``size`` (height, width) rescales each as it is read (bicubic
    and antialiased, the aspect ratio is not kept: as the release's conversion does).

    Raises ``PisaError`` for a file that is no image, and for images that differ in size.
    """
    first, native = _read_image(paths[0], size)
    frames = np.empty((len(paths), *first.shape), dtype=np.uint8)
    frames[0] = first
    for i, path in enumerate(paths[1:], start=1):
        frame, found = _read_image(path, size)
        if found != native:
            raise PisaError(
                f"{path}: is {found[1]}x{found[0]} px, "
                f"but {paths[0].name} is {native[1]}x{native[0]}"
            )
        frames[i] = frame
    return frames, native


def _read_image(
    path: Path, size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    try:
        with Image.open(path) as image:
            native = (image.height, image.width)
            rgb = to_rgb(image)
            if size is not None and size != native:
                rgb = rgb.resize((size[1], size[0]))
            return np.asarray(rgb), native
    except IMAGE_ERRORS as error:
        raise PisaError(f"{path}: cannot read frame: {reason(error)}") from error


def read_arrays(path: Path) -> dict[str, NDArray]:
    """The arrays of an ``.npz``, or ``{"": array}`` of an ``.npy``; never unpickles.

    Raises ``PisaError`` for a file that cannot be read, is damaged or would need unpickling.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except _ARRAY_ERRORS as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error


def read_masks(folder: Path) -> NDArray[np.bool_]:
    """Masks ``[T, N, H, W]`` of ``mask.npz`` or ``mask.npy``.

    Accepts ``[T, H, W]`` or ``[T, N, H, W]``, any real dtype, values 0 and 1 or 0 and 255, and an
    ``.npz`` whose array is called ``mask`` (the release), or that holds one array only.

    Raises ``PisaError`` where there is no such file, or it holds something else.
    """
    path = next((p for n in ("npz", "npy") if (p := folder / f"mask.{n}").is_file()), None)
    if path is None:
        raise PisaError(f"{folder}: mask.npz is missing (annotate.py makes it from points)")
    arrays = read_arrays(path)
    if "mask" not in arrays and len(arrays) != 1:
        raise PisaError(f"{path}: needs one array, or one called 'mask'; has {sorted(arrays)}")
    masks = arrays["mask"] if "mask" in arrays else next(iter(arrays.values()))
    if masks.dtype.kind not in "biuf" or masks.ndim not in (3, 4) or masks.size == 0:
        raise PisaError(f"{path}: masks must be [T, N, H, W], got {masks.dtype} {masks.shape}")
    masks = masks if masks.ndim == 4 else masks[:, None]
    return masks if masks.dtype == np.bool_ else _binarise(masks, path)


def _binarise(masks: NDArray, path: Path) -> NDArray[np.bool_]:
    high = masks.max()
    if high not in (0, 1, 255):
        raise PisaError(f"{path}: masks must hold 0 and 1, or 0 and 255; largest value {high}")
    binary = masks == high if high else np.zeros(masks.shape, dtype=np.bool_)
    if not np.array_equal(masks, binary * high):
        raise PisaError(f"{path}: masks must hold 0 and {high} only")
    return binary


def resize_masks(masks: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Nearest-pixel rescaling of ``[T, N, H, W]``."""
    rows = ((np.arange(height) + 0.5) * masks.shape[2] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * masks.shape[3] / width).astype(int)
    return masks[:, :, rows][:, :, :, columns]
