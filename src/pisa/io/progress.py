"""The progress of long work, by clips or by steps: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

FIRST_LINE_S, LINE_EVERY_S = 10.0, 30.0


class ProgressLog:
    """Lines with the time to go where standard error is no terminal: one soon, then every 30 s."""

    def __init__(self, title: str, total: int, unit: str = "clips", present: int = 0) -> None:
        self.title, self.total, self.unit, self.present = title, total, unit, present
        self._started = time.monotonic()
        self._next = self._started + FIRST_LINE_S

    def update(self, made: int) -> None:
        """``made`` have come since the start; prints where a line is due."""
        now = time.monotonic()
        if sys.stderr.isatty() or now < self._next or made < 1:
            return
        self._next = now + LINE_EVERY_S
        elapsed_s = now - self._started
        line = progress_line(self.title, self.present, made, self.total, elapsed_s, self.unit)
        print(line, file=sys.stderr, flush=True)


class ClipProgress(Progress):
    """Rich's bars, and lines in a log."""

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(*columns)
        self._logs: dict[TaskID, ProgressLog] = {}

    def add_task(self, description: str, **options: Any) -> TaskID:  # type: ignore[override]
        """Start a bar of ``total`` clips, ``completed`` of which are there already."""
        task = super().add_task(description, **options)
        total, present = int(options.get("total") or 0), int(options.get("completed", 0))
        self._logs[task] = ProgressLog(description, total, present=present)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        log = self._logs[task_id]
        log.update(int(self._tasks[task_id].completed) - log.present)


def clip_progress() -> ClipProgress:
    """A bar that counts clips, and says how fast it goes and how long the rest will take."""
    return ClipProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        _RateColumn(),
        TimeRemainingColumn(),
    )


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{3600 * speed:,.0f} clips/h")


def track_clips(done: Iterable[str], title: str, total: int, present: int) -> Iterator[str]:
    """The names in ``done`` with a bar, or with lines in a log."""
    with clip_progress() as progress:
        task = progress.add_task(title, total=total, completed=present)
        for name in done:
            progress.advance(task)
            yield name


def progress_line(
    title: str, present: int, made: int, total: int, elapsed_s: float, unit: str = "clips"
) -> str:
    """``present`` were there before, ``made`` have come since, in ``elapsed_s`` seconds."""
    rate_per_s = made / elapsed_s
    left_s = (total - present - made) / rate_per_s
    hours, minutes = divmod(round(left_s / 60), 60)
    return (
        f"{title}: {present + made}/{total} {unit}, {3600 * rate_per_s:,.0f} {unit}/h, "
        f"{hours} h {minutes:02d} min to go"
    )
