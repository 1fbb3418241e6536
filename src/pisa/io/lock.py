"""One run at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pisa.errors import PisaError

NAME = ".lock"
_BUSY = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # some network file systems
_held: set[Path] = set()


@contextmanager
def hold(folder: Path, name: str = NAME, *, waiting: str | None = None) -> Iterator[None]:
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
