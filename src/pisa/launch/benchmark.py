"""The clips that anyone's videos are scored against: one split of PisaBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pisa.data.manifest import list_clips
from pisa.data.real import require_real_clips
from pisa.launch.datasets import DataSets
from pisa.types import PisaError

REAL_SIZE = (256, 256)  # what the release converts its real clips to before scoring
SPLITS = ("real", "sim_seen", "sim_unseen")


def benchmark_clips(cfg: DictConfig, split: str | None) -> list[Path]:
    """Clip folders of a split; simulated ones are made when they are missing.

    Raises ``PisaError`` for another name, and for real clips that are not there (what to fetch).
    """
    if split not in SPLITS:
        given = "" if split is None else f", not {split!r}"
        raise PisaError(f"benchmark must be one of {', '.join(SPLITS)}{given}")
    if split == "real":
        return list_clips(require_real_clips(Path(cfg.data_dir) / "real"))
    return list_clips(DataSets(cfg).make(split))


def benchmark_size(split: str, given: Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) that clips are read at; None keeps the size on disk."""
    if given is not None:
        if len(given) != 2 or min(given) < 8:
            raise PisaError("source.size must be [HEIGHT, WIDTH], each at least 8")
        return int(given[0]), int(given[1])
    return REAL_SIZE if split == "real" else None
