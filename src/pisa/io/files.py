"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pisa.errors import PisaError, reason


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step; parent folders are created.

    Raises ``PisaError`` where it cannot be written; the old file then stays as it was.
    """
    with replace_file(path) as part:
        part.write_bytes(content)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A hidden file name beside ``path``; it takes the place of ``path`` if the body succeeds.

    Parent folders are created. Raises ``PisaError`` where it cannot be written; the old file then
    stays as it was.
    """
    part = _hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:  # without it a power cut can leave an empty file
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise PisaError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A hidden sibling folder that takes the place of ``folder`` if the body succeeds.

    Raises ``PisaError`` where it cannot be written; nothing is left of it then.
    """
    part = _hidden(folder)
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
    except OSError as error:
        raise PisaError(f"cannot write {folder}: {reason(error)}") from error
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _hidden(path: Path) -> Path:
    """``discard_parts`` of ``pisa.data.clip_io`` knows this form."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
