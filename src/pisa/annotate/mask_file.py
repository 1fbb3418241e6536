"""``mask.npz`` beside the frames of a clip, written in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from pisa.data.clip_files import resize_masks
from pisa.types import PisaError


def write_mask_file(path: Path, masks: Bool[np.ndarray, "t n h w"], size: tuple[int, int]) -> None:
    """``mask.npz`` with array ``mask`` at ``size``, enlarged frame by frame to spare memory."""
    shape = (*masks.shape[:2], *size)
    header = {"descr": "|b1", "fortran_order": False, "shape": shape}
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".mask.", suffix=".part")
        try:
            with (
                os.fdopen(handle, "wb") as stream,
                zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                archive.open("mask.npy", "w", force_zip64=True) as member,
            ):
                np.lib.format.write_array_header_1_0(member, header)
                for frame in masks:
                    member.write(resize_masks(frame[None], *size).tobytes())
            os.chmod(part, 0o644)
            os.replace(part, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        raise PisaError(f"cannot write {path}: {error.strerror}") from error
