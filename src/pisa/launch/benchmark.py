"""The clips that anyone's videos are scored against: one split of PisaBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pisa.data.manifest import list_clips
from pisa.data.real import require_real_clips
from pisa.launch.compose import data_sets
from pisa.types import PisaError

REAL_SIZE = (256, 256)  # what the release converts its real clips to before scoring
SPLITS = ("real", "sim_seen", "sim_unseen")


def with_own_clips(cfg: DictConfig) -> DictConfig:
    """``benchmark=DIR``: the clips in that folder stand for the real ones; else ``cfg`` as it is.

    Raises ``PisaError`` for a folder without clips.
    """
    if cfg.benchmark in (None, *SPLITS) or not Path(cfg.benchmark).is_dir():
        return cfg
    folder = Path(cfg.benchmark).resolve()
    list_clips(folder)
    own = cfg.copy()
    OmegaConf.update(own, "real.name", str(folder))  # absolute, so that data_dir doesn't count
    OmegaConf.update(own, "benchmark", "real")
    return own


def benchmark_clips(cfg: DictConfig, split: str | None) -> list[Path]:
    """Clip folders of a split; simulated ones are made when they are missing.

    Raises ``PisaError`` for another name, and for real clips that are not there (what to fetch).
    """
    if split not in SPLITS:
        given = "" if split is None else f", not {split!r}"
        valid = f"{', '.join(SPLITS)} or a folder of clips"
        raise PisaError(f"benchmark must be one of {valid}{given}")
    if split == "real":
        return list_clips(require_real_clips(Path(cfg.data_dir) / cfg.real.name))
    return list_clips(data_sets(cfg).make(split))


def benchmark_size(split: str, given: Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) that clips are read at; None keeps the size on disk.

    Raises ``PisaError`` for anything but two whole numbers of at least 8.
    """
    if given is not None:
        if len(given) != 2 or min(given) < 8:
            raise PisaError("source.size must be [HEIGHT, WIDTH], each at least 8")
        return int(given[0]), int(given[1])
    return REAL_SIZE if split == "real" else None
