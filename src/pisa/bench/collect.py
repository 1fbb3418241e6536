"""Rows, failures and shown clips of a scoring run, gathered as the clips are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pisa.bench.row import ScoreRow
from pisa.bench.score import Failure, Scored

SHOWN_FPS_HZ = 16.0
SHOWN_FRAMES, SHOWN_PX = 64, 128


@dataclass
class Collection:
    """The rows and failures that a run has scored so far.

    ``shown_clips``: how many clips the report shows (None: all); of several seeds the first one.
    """

    shown_clips: int | None = None
    rows: list[ScoreRow] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    _shown: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def joined(
        cls, parts: Sequence[Collection], order: Callable[[ScoreRow | Failure], int]
    ) -> Collection:
        """Join the scores of several processes, sorted by model, split, then ``order``."""
        whole = cls(parts[0].shown_clips)
        entries: list[ScoreRow | Failure] = [row for part in parts for row in part.rows]
        entries += [failure for part in parts for failure in part.failures]
        models = list(dict.fromkeys(entry.model for entry in entries))
        splits = list(dict.fromkeys(entry.split for entry in entries))

        def place(entry: ScoreRow | Failure) -> tuple[int, int, int]:
            return models.index(entry.model), splits.index(entry.split), order(entry)

        whole.rows = sorted((row for part in parts for row in part.rows), key=place)
        whole.failures = sorted((f for part in parts for f in part.failures), key=place)
        shown = {key: pictures for part in parts for key, pictures in part._shown.items()}
        first = {(row.split, row.clip): i for i, row in reversed(list(enumerate(whole.rows)))}
        whole._shown = dict(sorted(shown.items(), key=lambda item: first.get(item[0], len(first))))
        return whole

    def add(
        self, result: Scored | Failure, *, thin_from_hz: float | None = None, **columns: Any
    ) -> None:
        """Keep a result; ``columns`` join the row's groups.

        ``thin_from_hz`` is the rate of a video that is to be thinned for the report; None shows it
        as it is. A partial row is kept and listed as a failure: it has no place in a mean.
        """
        if isinstance(result, Failure):
            self.failures.append(result)
            return
        row = replace(result.row, groups={**result.row.groups, **columns})
        self.add_row(row)
        key = (row.split, row.clip)
        if self.shown_clips is None or key in self._shown or len(self._shown) < self.shown_clips:
            shown = {"frames": result.frames, "mask": result.mask.numpy()}
            if thin_from_hz is not None:
                shown = thinned(result.frames, shown["mask"], thin_from_hz)
            self._shown.setdefault(key, {}).setdefault(row.model, shown)

    def add_row(self, row: ScoreRow) -> None:
        """Keep a row without pictures."""
        self.rows.append(row)
        if row.partial:
            self.failures.append(Failure(row.model, row.split, row.clip, row.seed, _partial(row)))

    def frames(self, split: str, clip: str, model: str) -> np.ndarray[Any, Any] | None:
        """Frames [T, H, W, 3] of a kept video as the report shows them; None of another."""
        shown = self._shown.get((split, clip), {}).get(model)
        return None if shown is None else shown["frames"]

    def show(self, split: str, clip: str, model: str, picture: Mapping[str, Any]) -> None:
        """Pictures made elsewhere: ``frames`` [T, H, W, 3] and ``mask`` [T, H, W]."""
        self._shown.setdefault((split, clip), {})[model] = dict(picture)

    @property
    def videos(self) -> list[dict[str, Any]]:
        """Frames and masks per clip and model, as the report takes them."""
        return [{"split": s, "clip": c, "models": m} for (s, c), m in self._shown.items()]

    def notes(self) -> list[str]:
        """Notes beside the scores: short videos, shifts, lost trackers."""
        short = [f"{r.clip} {r.coverage:.0%}" for r in self.rows if r.coverage < 1]
        early = [r.clip for r in self.rows if r.frame_shift == 1]
        late = [r.clip for r in self.rows if r.frame_shift == -1]
        large = [f"{r.clip} x{r.area_ratio:.0f}" for r in self.rows if r.area_ratio > 4]
        texts = {
            "cover less time than their clips (coverage)": short,
            "fit their clips better one frame earlier: frame 0 is missing": early,
            "fit their clips better one frame later: frame 0 is shown twice": late,
            "have a mask over 4 times the object's size: the tracker lost it": large,
        }
        return [f"{len(who)} video(s) {text}: {_listed(who)}" for text, who in texts.items() if who]


def thinned(
    frames: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], fps_hz: float
) -> dict[str, Any]:
    """At most 64 frames, 16 per second, and at most 128 px a side: what a report can carry.

    ``frames`` are [T, H, W, 3] uint8, ``mask`` [T, H, W] bool.
    """
    wanted = (np.arange(SHOWN_FRAMES) * fps_hz / SHOWN_FPS_HZ).astype(int)
    index = wanted[wanted < len(frames)]
    step = -(-max(frames.shape[1:3]) // SHOWN_PX)
    return {"frames": frames[index][:, ::step, ::step], "mask": mask[index][:, ::step, ::step]}


def _partial(row: ScoreRow) -> str:
    return (
        f"partial: only {row.coverage:.0%} of the true clip's time is compared "
        f"({row.num_frames_compared} frames), so the pair counts in no mean"
    )


def _listed(names: list[str], most: int = 10) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
