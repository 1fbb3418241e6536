"""Whole-file writes that never leave half a file behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pisa.types import PisaError


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside ``path`` and rename over it; parent folders are made.

    Raises ``PisaError`` where the file cannot be written; the old file then stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise PisaError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise PisaError(f"cannot write {path}: {error.strerror}") from error
