"""PyBullet without the lines it prints on import and on every connection."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def _silenced() -> Iterator[None]:
    """File descriptors 1 and 2 go to the null device meanwhile: the prints come from C."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)


with _silenced():
    import pybullet
    from pybullet_utils.bullet_client import BulletClient


@contextmanager
def bullet() -> Iterator[BulletClient]:
    """An empty headless Bullet world; the process keeps one and resets it before each use."""
    client = _client(os.getpid())
    client.resetSimulation()
    yield client


@cache
def _client(pid: int) -> BulletClient:
    with _silenced():
        return BulletClient(connection_mode=pybullet.DIRECT)


__all__ = ["BulletClient", "bullet", "pybullet"]
