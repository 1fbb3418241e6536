"""Processes that tests start: from a server that has the imports and one thread.

A fork of the test's own process copies its locks as they are. After another test has left threads
(W&B, a local server), the copy can wait for one for ever. A new Python takes 10 s to import
Lightning and what comes with it; a fork of the server takes none.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

ROOT = Path(__file__).parents[1]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "pisa.launch.compose",
        "pisa.launch.train",
        "pisa.launch.evaluate",
        "pisa.launch.simulate",
        "tests.conftest",  # after the package: it checks shapes of what is imported later
        "tests.distributed.oro_job",
    ]
)


def run_script(
    script: str, *arguments: str, cwd: Path, timeout_s: float = 280, **environment: str
) -> CompletedProcess[str]:
    """A script of the repository in a process of its own: exit code, stdout and stderr.

    ``environment`` is added to this process's.
    """
    with TemporaryDirectory() as folder:
        output = Path(folder)
        process = start_script(script, *arguments, cwd=cwd, output=output, **environment)
        end([process], timeout_s)
        texts = [(output / name).read_text() for name in ("stdout", "stderr")]
    assert process.exitcode is not None
    return CompletedProcess([script, *arguments], process.exitcode, *texts)


def start_script(
    script: str, *arguments: str, cwd: Path, output: Path, **environment: str
) -> BaseProcess:
    """Start it and return at once; it writes ``output/stdout`` and ``output/stderr``."""
    whole = dict(os.environ) | environment
    process = processes.Process(target=_script, args=(script, arguments, cwd, output, whole))
    process.start()
    return process


def rank_environments(world_size: int) -> list[dict[str, str]]:
    """Environment variables that torchrun sets, one mapping for each process on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "tests",  # by which Lightning knows that they are started
        }
        for rank in range(world_size)
    ]


def run_ranks(
    work: Callable[..., None], *arguments: Any, world_size: int = 2, timeout_s: float = 240
) -> None:
    """``work(*arguments, environment)`` in one process for each rank; all must end with 0."""
    ranks = [
        processes.Process(target=work, args=(*arguments, environment))
        for environment in rank_environments(world_size)
    ]
    for process in ranks:
        process.start()
    end(ranks, timeout_s)
    assert [process.exitcode for process in ranks] == [0] * world_size


def end(started: Sequence[BaseProcess], timeout_s: float) -> None:
    """Wait for them. When one fails, the others are killed, as torchrun does.

    Those that still run after ``timeout_s`` are killed and fail the test.
    """
    deadline, running = time.monotonic() + timeout_s, list(started)
    while running and time.monotonic() < deadline:
        wait([process.sentinel for process in running], deadline - time.monotonic())
        running = [process for process in running if process.exitcode is None]
        if any(process.exitcode for process in started):
            break
    late = time.monotonic() >= deadline
    for process in running:
        process.kill()
        process.join()
    assert not (running and late), f"{len(running)} processes still ran after {timeout_s:g} s"


def _script(
    script: str,
    arguments: Sequence[str],
    cwd: Path,
    output: Path,
    environment: dict[str, str],
) -> None:
    for name, stream in (("stdout", 1), ("stderr", 2)):
        file = os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    path = ROOT / script
    sys.path[:0] = [str(path.parent), *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    sys.argv = [str(path), *arguments]
    rank_zero_only.rank = int(environment.get("RANK", 0))  # Lightning reads it when imported
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # of W&B and others; multiprocessing leaves them out
