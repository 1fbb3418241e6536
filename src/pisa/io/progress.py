"""The progress of work that goes clip by clip: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_S = 60.0


def clip_progress() -> Progress:
    """A bar that counts clips, and says how fast it goes and how long the rest will take."""
    return Progress(
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
    """The names in ``done`` with a bar, and in a log (no terminal) with a line a minute."""
    with clip_progress() as progress:
        task = progress.add_task(title, total=total, completed=present)
        started = last = time.monotonic()
        for count, name in enumerate(done, start=1):
            progress.advance(task)
            now = time.monotonic()
            if not progress.console.is_terminal and now - last >= LINE_EVERY_S:
                last = now
                print(progress_line(title, present, count, total, now - started), file=sys.stderr)
            yield name


def progress_line(title: str, present: int, made: int, total: int, elapsed_s: float) -> str:
    """``present`` clips were there before, ``made`` have come since, in ``elapsed_s`` seconds."""
    rate_per_s = made / elapsed_s
    left_s = (total - present - made) / rate_per_s
    hours, minutes = divmod(round(left_s / 60), 60)
    return (
        f"{title}: {present + made}/{total} clips, {3600 * rate_per_s:,.0f} clips/h, "
        f"{hours} h {minutes:02d} min to go"
    )
