"""Files and folders that appear complete or not at all, and belong to one run at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pisa.errors import PisaError, reason

_LOCK = ".lock"
_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # some network file systems
_held: set[Path] = set()


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def hold(folder: Path, name: str = _LOCK, *, waiting: str | None = None) -> Iterator[None]:
    """Keep other processes out of ``folder`` (made if need be) while the body runs.

    ``name`` is the lock's file in it. With ``waiting``, a line that is printed then, it waits for
    another process to leave.

    The kernel lifts the lock when the process ends, however it ends: nothing is left to clean up
    after kill -9. In the process that holds it already this does nothing.

    Raises:
        PisaError: another run is in there (its process is named) and ``waiting`` is None, or the
            folder cannot be written.
    """
    place = folder.absolute() / name
    if place in _held:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PisaError(f"cannot write {folder}: {error.strerror}") from error
    try:
        _lock(handle, folder, waiting)
        _held.add(place)
        yield
    finally:
        _held.discard(place)
        os.close(handle)


def _lock(handle: int, folder: Path, waiting: str | None) -> None:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if waiting is None or error.errno not in _BUSY:
                raise
            print(waiting, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            print(f"note: {folder} lies on a file system without locks; start no second run in it")
        elif error.errno in _BUSY:
            owner = os.pread(handle, 200, 0).decode(errors="replace") or "another run"
            raise PisaError(
                f"{folder} is in use by {owner}; wait for it, or choose another output_dir"
            ) from error
        elif error.errno != errno.ENOSPC:  # the lock holds, only its note does not fit
            raise PisaError(f"cannot write {folder}: {error.strerror}") from error
