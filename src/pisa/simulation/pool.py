"""Worker processes that may crash or hang: they are replaced, and their task is tried again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import torch

from pisa.errors import PisaError

START_TIMEOUT_S = 600.0  # imports, on a machine that does other things too
MAX_FAILED_STARTS = 3
PRELOAD = "pisa.simulation.fast"


class Transient(PisaError):
    """A failure that may not happen again: the task is worth another attempt."""


@dataclass(frozen=True)
class Outcome:
    """A finished task; ``error`` is None, or one line on why every attempt failed."""

    task: int
    error: str | None = None


def supervise(
    make: Callable[[int], None],
    tasks: Sequence[int],
    *,
    num_workers: int,
    timeout_s: float,
    attempts: int,
) -> Iterator[Outcome]:
    """Run ``make(task)`` for every task in ``num_workers`` processes, in any order.

    A task whose worker dies, takes longer than ``timeout_s`` or raises ``Transient`` or an
    unexpected exception is tried ``attempts`` times. A ``PisaError`` ends everything: it needs the
    user. ``make`` must be picklable.
    """
    queue, tries = deque(tasks), Counter[int]()
    workers = [_Worker(make) for _ in range(min(num_workers, len(queue)))]
    failed_starts = 0
    try:
        while queue or any(worker.task is not None for worker in workers):
            for worker in workers:
                if worker.ready and worker.task is None and queue:
                    worker.give(queue.popleft(), timeout_s)
            _wait(workers)
            for i, worker in enumerate(workers):
                task, (kind, text) = worker.task, worker.news()
                if kind == "stop":
                    raise PisaError(text)
                if kind == "lost":
                    workers[i] = _Worker(make)
                    failed_starts += task is None
                    if failed_starts >= MAX_FAILED_STARTS:
                        raise PisaError(f"simulation workers cannot start: the last {text}")
                if task is None or kind in ("nothing", "ready"):
                    continue
                tries[task] += 1
                if kind == "done":
                    yield Outcome(task)
                elif tries[task] < attempts:
                    queue.append(task)
                else:
                    yield Outcome(task, text)
    finally:
        for worker in workers:
            worker.kill()


def _wait(workers: list[_Worker]) -> None:
    """Until a worker has news or one's time is up."""
    busy = [w for w in workers if w.task is not None or not w.ready]
    left = min(w.deadline for w in busy) - time.monotonic() if busy else 0.0
    wait([w.pipe for w in busy], timeout=max(0.0, left))


class _Worker:
    """One process, in a session of its own so that its children die with it."""

    def __init__(self, make: Callable[[int], None]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            [PRELOAD]
        )  # imports once, so that a new worker starts at once
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.ready, self.task = False, None
        self._timeout_s = START_TIMEOUT_S
        self.deadline = time.monotonic() + START_TIMEOUT_S

    task: int | None

    def give(self, task: int, timeout_s: float) -> None:
        self.task, self._timeout_s = task, timeout_s
        self.deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):  # a dead worker shows as an end of file in news()
            self.pipe.send(task)

    def news(self) -> tuple[str, str]:
        """The event: nothing, ready, done, retry, stop; or lost, with the process killed."""
        try:
            if not self.pipe.poll():
                if (self.task is None and self.ready) or time.monotonic() < self.deadline:
                    return "nothing", ""
                return self._lost(f"worker took more than {self._timeout_s:.0f} s")
            kind, text = self.pipe.recv()
        except (EOFError, OSError):
            return self._lost("worker died (killed, or out of memory?)")
        self.ready, self.task = True, None
        return kind, text

    def _lost(self, text: str) -> tuple[str, str]:
        self.kill()
        return "lost", text

    def kill(self) -> None:
        pid = self._process.pid
        if pid is not None and self._process.is_alive():
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # not yet a leader of its own session
                self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(make: Callable[[int], None], pipe: Connection) -> None:
    """The worker: tasks come in, news goes out, until the other end is gone."""
    os.setsid()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        pipe.send(("ready", ""))
        while True:
            pipe.send(_attempt(make, pipe.recv()))


def _attempt(make: Callable[[int], None], task: int) -> tuple[str, str]:
    try:
        make(task)
    except Transient as error:
        return "retry", str(error)
    except PisaError as error:
        return "stop", str(error)
    except Exception as error:
        return "retry", f"{type(error).__name__}: {error}"
    return "done", ""
