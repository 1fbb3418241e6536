"""Long work beside the page: one job at a time, with progress, an error to show, and a stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pisa.annotate.recording import Progress
from pisa.errors import PisaError


class Stopped(PisaError):
    """The person stopped the job."""


@dataclass
class Job:
    """State is read by the page and written by the worker."""

    title: str
    work: Callable[[Progress], None]
    fraction: float = 0.0
    error: str = ""
    done: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self._stop.set()

    def progress(self, fraction: float) -> None:
        """Called by the work; raises ``Stopped`` when that is wanted."""
        if self._stop.is_set():
            raise Stopped(f"{self.title}: stopped")
        self.fraction = fraction

    def run(self) -> None:
        """The work; what goes wrong becomes a line for the page, and a bug of ours its type."""
        try:
            self.progress(0.0)
            self.work(self.progress)
        except PisaError as error:
            self.error = str(error)
        except Exception as error:  # the worker must outlive it; the page shows it
            self.error = f"{self.title} failed: {type(error).__name__}: {error}"
        finally:
            self.fraction, self.done = 1.0, True


class Worker:
    """Runs jobs one after the other in a thread of its own: models and decoders use all cores."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.jobs: list[Job] = []

    def start(self, title: str, work: Callable[[Progress], None]) -> Job:
        """Begin a job; one of the same title that is not done yet is returned instead."""
        self.jobs = [job for job in self.jobs if not job.done]
        for job in self.jobs:
            if job.title == title:
                return job
        job = Job(title, work)
        self.jobs.append(job)
        threading.Thread(target=self._in_turn, args=(job,), daemon=True).start()
        return job

    @property
    def current(self) -> Job | None:
        return next((job for job in self.jobs if not job.done), None)

    def _in_turn(self, job: Job) -> None:
        with self._turn:
            job.run()
