"""The clips that anyone's videos are scored against: one split of PisaBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pisa.data.manifest import list_clips
from pisa.data.real import require_real_clips
from pisa.errors import PisaError
from pisa.launch.runs import SPLITS, EvalRun

REAL_SIZE = (256, 256)  # what the release converts its real clips to before scoring


def benchmark_clips(run: EvalRun) -> list[Path]:
    """Clip folders of the split ``benchmark``; simulated ones are made when they are missing.

    Raises ``PisaError`` for another name, and for real clips that are not there (what to fetch).
    """
    split = run.benchmark
    if split not in SPLITS:
        given = "" if split is None else f", not {split!r}"
        valid = f"{', '.join(SPLITS)} or a folder of clips"
        raise PisaError(f"benchmark must be one of {valid}{given}")
    if split == "real":
        return list_clips(require_real_clips(run.data_dir / run.real.settings["name"]))
    return list_clips(run.sets.make(split))


def benchmark_size(split: str, given: Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) that clips are read at; None keeps the size on disk.

    Raises ``PisaError`` for anything but two whole numbers of at least 8.
    """
    if given is not None:
        if len(given) != 2 or min(given) < 8:
            raise PisaError("source.size must be [HEIGHT, WIDTH], each at least 8")
        return int(given[0]), int(given[1])
    return REAL_SIZE if split == "real" else None
