"""Mask files as they are, for scoring: no value is changed, nothing is unpickled.

The release's metrics test ``mask == 1``, so masks that hold 255 must reach them as 255.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pisa.data.clip_files import read_arrays
from pisa.types import PisaError, reason

_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,  # of a header
    RuntimeError,  # encrypted; includes NotImplementedError
    zipfile.BadZipFile,
    zlib.error,
)
MAX_BYTES = 8 << 30  # of one file's arrays, unpacked; 12 s at 120 Hz, 1024^2, 5 objects fit


def read_mask_array(path: Path, max_bytes: int = MAX_BYTES) -> NDArray:
    """The array of an ``.npy``; of an ``.npz`` the one called ``mask``, else its only one.

    ``[T, H, W]`` or ``[T, N, H, W]`` of real numbers. The declared size is checked before anything
    is unpacked. Raises ``PisaError`` naming the file.
    """
    _check_declared(path, max_bytes)
    arrays = read_arrays(path)
    if "mask" not in arrays and len(arrays) != 1:
        raise PisaError(f"{path}: needs one array, or one called 'mask'; has {sorted(arrays)}")
    masks = arrays["mask"] if "mask" in arrays else next(iter(arrays.values()))
    if masks.dtype.kind not in "biuf" or masks.ndim not in (3, 4):
        shape = f"{masks.dtype} {masks.shape}"
        raise PisaError(f"{path}: masks must be [T, H, W] or [T, N, H, W], got {shape}")
    return masks


def _check_declared(path: Path, max_bytes: int) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                size = sum(_declared_member(archive, member) for member in members)
        else:
            with path.open("rb") as stream:
                size = _declared(stream)
    except _BROKEN as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error
    if size > max_bytes:
        raise PisaError(
            f"{path}: declares {size / 2**30:.1f} GiB of masks, more than the limit of "
            f"{max_bytes / 2**30:g} GiB"
        )


def _declared_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    with archive.open(member) as stream:
        return max(member.file_size, _declared(stream))


def _declared(stream) -> int:
    """Bytes that the header of an ``.npy`` promises."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    size = dtype.itemsize
    for side in shape:
        size *= int(side)
    return size
