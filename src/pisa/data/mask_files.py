"""Mask files, read and written: nothing is unpickled, axes and values are checked.

Scoring takes values as stored, because the release's metrics test ``mask == 1``; clips take them as
booleans. What is ambiguous (id maps, logits, swapped axes) is refused in both.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from pisa.errors import PisaError, reason
from pisa.io.files import replace_file

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


def _declared(stream: IO[bytes]) -> int:
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


def write_mask_file(
    path: Path,
    masks: Iterable[Bool[np.ndarray, "n h w"]],
    shape: tuple[int, ...],
    extra: Mapping[str, NDArray] | None = None,
) -> None:
    """``mask.npz`` with array ``mask`` of ``shape`` [T, N, H, W], and the arrays in ``extra``.

    ``masks`` come frame by frame and are resized to H and W one by one, so that a long clip need
    not fit into memory. Raises ``ValueError`` unless they are T frames of N objects.
    """
    header = {"descr": "|b1", "fortran_order": False, "shape": tuple(shape)}
    with (
        replace_file(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        with archive.open("mask.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            count = 0
            for count, frame in enumerate(masks, start=1):  # noqa: B007
                if len(frame) != shape[1]:
                    raise ValueError(f"{len(frame)} masks in a frame of {shape[1]} objects")
                member.write(resize_masks(frame[None], *shape[2:]).tobytes())
            if count != shape[0]:
                raise ValueError(f"masks of {count} frames, not {shape[0]}")
        for name, array in (extra or {}).items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_arrays(path: Path, only: Collection[str] | None = None) -> dict[str, NDArray]:
    """The arrays of an ``.npz``, or ``{"": array}`` of an ``.npy``; never unpickles.

    ``only`` names those of an ``.npz`` that are wanted, if it has them.

    Raises ``PisaError`` for a file that cannot be read, is damaged or would need unpickling.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files if only is None or key in only}
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
    masks = read_mask_array(path)
    if masks.size == 0:
        raise PisaError(f"{path}: masks must be [T, N, H, W], got {masks.dtype} {masks.shape}")
    return to_bool(masks if masks.ndim == 4 else masks[:, None], path)


class MaskValues(StrEnum):
    """The meaning of a mask array's values."""

    BOOLEAN = "booleans"
    ONES = "0 and 1"
    BYTES = "0 and 255"
    PROBABILITIES = "probabilities"


def mask_values(masks: NDArray, path: Path) -> MaskValues:
    """The meaning of the values of ``masks``.

    Raises ``PisaError`` naming ``path`` for values that could mean several things: id maps, logits,
    signed masks, probabilities that nowhere exceed 0.5, NaN.
    """
    if masks.dtype == np.bool_ or masks.size == 0:
        return MaskValues.BOOLEAN
    low, high = masks.min(), masks.max()
    if not np.isfinite(high - low):
        raise _unclear(path, "they hold NaN or infinity")
    if low < 0:
        raise _unclear(path, f"smallest value {low:g} (logits? store mask > 0)")
    if high in (0, 1) and np.isin(masks, (0, 1)).all():
        return MaskValues.ONES
    if high == 255:
        if not np.isin(masks, (0, 255)).all():
            raise _unclear(path, "0 and 255 only, but others are there too")
        return MaskValues.BYTES
    if high > 1 or masks.dtype.kind != "f":
        raise _unclear(path, f"largest value {high:g} (an id map? store one channel per object)")
    if high <= 0.5:
        raise _unclear(path, f"largest value {high:g} (probabilities that never exceed 0.5?)")
    return MaskValues.PROBABILITIES


def to_bool(masks: NDArray, path: Path) -> NDArray[np.bool_]:
    """Masks of a clip as booleans; probabilities are refused, since a true mask has none."""
    values = mask_values(masks, path)
    if values is MaskValues.PROBABILITIES:
        raise _unclear(path, f"largest value {masks.max():g} (probabilities?)")
    return masks != 0


def check_axes(masks: NDArray, path: Path) -> None:
    """``PisaError`` for masks whose axes are not ``[T, H, W]`` or ``[T, N, H, W]``."""
    frames, objects = masks.shape[0], masks.shape[1] if masks.ndim == 4 else 1
    height, width = masks.shape[-2:]
    expected = "axes swapped? They must be [T, H, W] or [T, N, H, W] (N objects)"
    if masks.size and objects > frames:
        raise PisaError(f"{path}: holds {objects} objects in {frames} frame(s): {expected}")
    if masks.size and (min(height, width) == 1 or (masks.ndim == 4 and width <= 4 < objects)):
        raise PisaError(f"{path}: holds frames of {width}x{height} px: {expected}")
    if masks.ndim == 3 and frames == height != width:  # what [H, W, T] of square frames looks like
        raise PisaError(
            f"{path}: holds {frames} frames of {width}x{height} px, or {width} frames of "
            f"{height}x{frames} px: {expected}; store [T, 1, H, W] to say so"
        )


def describe(values: MaskValues, path: Path) -> str:
    """A note on what the protocols count in a file whose values are not 0 and 1; else empty."""
    if values in (MaskValues.BOOLEAN, MaskValues.ONES):
        return ""
    counted = "255" if values is MaskValues.BYTES else "values above 0.5"
    return (
        f"note: {path} holds {values.value}; paper and strict count {counted}, official counts "
        "only 1 (as the release does)"
    )


def _unclear(path: Path, what: str) -> PisaError:
    return PisaError(f"{path}: masks must hold 0 and 1, or 0 and 255: {what}")


def resize_masks(masks: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Nearest-pixel rescaling of ``[T, N, H, W]``; the array itself if it has that size."""
    if masks.shape[2:] == (height, width):
        return masks
    rows = ((np.arange(height) + 0.5) * masks.shape[2] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * masks.shape[3] / width).astype(int)
    return masks[:, :, rows][:, :, :, columns]
