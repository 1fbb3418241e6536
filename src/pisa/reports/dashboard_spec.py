"""The W&B dashboard as data: which panels stand in which section. Drawn offline from the same."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

SPLITS = {"sim_seen": "seen objects", "sim_unseen": "unseen objects"}
METRICS = {
    "l2": "L2",
    "chamfer": "Chamfer distance",
    "iou": "IoU",
    "time_error": "time error (s)",
    "miss_rate": "missed frames",
}
X_AXIS = "trainer/global_step"


@dataclass(frozen=True)
class Panel:
    """Curves in one plot; ``keys`` may end in ``*``. ``smooth`` from 0 (none) to 1."""

    title: str
    keys: tuple[str, ...]
    smooth: float = 0.0
    log_y: bool = False

    def matching(self, logged: Iterable[str]) -> list[str]:
        """The logged keys that this panel shows, in order of name."""
        return sorted(k for k in logged if any(fnmatch.fnmatchcase(k, key) for key in self.keys))


@dataclass(frozen=True)
class Section:
    """Plots, sample videos (``media``) and tables of one subject."""

    title: str
    panels: tuple[Panel, ...] = ()
    media: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "PisaBench",
        tuple(
            Panel(f"{label}, {objects}", (f"pisabench/{split}/{metric}",))
            for split, objects in SPLITS.items()
            for metric, label in METRICS.items()
        ),
    ),
    Section(
        "Loss and reward",
        (
            Panel("training loss", ("train/loss",), smooth=0.8),
            Panel("validation loss", ("val/loss",)),
            Panel("reward, training", ("train/reward*",), smooth=0.8),
            Panel("reward, validation", ("val/reward*",)),
        ),
    ),
    Section(
        "Gradient microscope",
        (
            Panel("length of the gradient by denoising step", ("microscope/step_*_norm",)),
            Panel("direction by step (cosine)", ("microscope/step_*_cosine",)),
            Panel("share by step", ("microscope/step_*_share",)),
            Panel("used against full gradient", ("microscope/used_*",)),
        ),
    ),
    Section(
        "Samples: truth | generated",
        media=tuple(f"samples/{split}/{i}" for split in SPLITS for i in range(2)),
    ),
    Section("Worst clips", tables=tuple(f"worst_clips/{split}" for split in SPLITS)),
    Section(
        "Optimiser and machine",
        (
            Panel("gradient norm", ("train/gradient_norm",), log_y=True),
            Panel("learning rate", ("lr-*",)),
            Panel("steps skipped (not finite)", ("train/nonfinite_steps",)),
            Panel("fraction of steps clipped", ("train/clipped_fraction",)),
            Panel("seconds per step", ("throughput/step_s",)),
            Panel("peak memory (GiB)", ("memory/*",)),
        ),
    ),
)
