"""Rows, failures and pictures of a folder of videos; one broken video never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pisa.bench.sample_score import REFERENCES, SampleScorer, ScoredSample
from pisa.bench.video_match import Sample
from pisa.data.clip_info import read_info, scene_of
from pisa.data.clip_io import read_clip
from pisa.data.video_files import Footage
from pisa.types import Clip, PisaError

Reader = Callable[[Path, Clip], Footage]


class VideoRun:
    """Scores clip after clip.

    Args:
        model: the videos' row in the table.
        read: reads a video at the size of a clip.
        size: (height, width) the clips are read at; None keeps theirs.
        references: rows beside the videos', of ``truth`` and ``frozen``.
        shown_clips: how many clips the report shows.
    """

    def __init__(
        self,
        scorer: SampleScorer,
        model: str,
        read: Reader,
        size: tuple[int, int] | None,
        references: Sequence[str],
        shown_clips: int,
    ) -> None:
        self.scorer, self.model, self.read, self.size = scorer, model, read, size
        self.references, self.shown_clips = references, shown_clips
        self.rows: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self._shown: dict[str, dict[str, Any]] = {}

    def score_clip(self, folder: Path, samples: Sequence[Sample]) -> None:
        """Score the samples of one clip and the references."""
        try:
            clip = read_clip(folder, size=self.size)
            groups = groups_of(clip, folder)
        except PisaError as error:
            for sample in samples:
                self._fail(self.model, sample, f"the benchmark's clip cannot be read: {error}")
            return
        for name in self.references:
            sample = Sample(clip.name, 0, folder)
            self._attempt(name, sample, groups, partial(self._reference, name, clip))
        for sample in samples:
            self._attempt(self.model, sample, groups, partial(self._video, sample, clip))

    @property
    def videos(self) -> list[dict[str, Any]]:
        """What the report shows of each clip: of several seeds, the first one scored."""
        split = self.scorer.split
        return [{"clip": c, "split": split, "models": models} for c, models in self._shown.items()]

    def _reference(self, name: str, clip: Clip) -> ScoredSample:
        return self.scorer.score(clip, name, 0, REFERENCES[name](clip), clip.fps_hz)

    def _video(self, sample: Sample, clip: Clip) -> ScoredSample:
        if sample.path is None:
            raise PisaError(sample.problem)
        footage = self.read(sample.path, clip)
        return self.scorer.score(clip, self.model, sample.seed, footage.frames, footage.fps_hz)

    def _attempt(
        self,
        model: str,
        sample: Sample,
        groups: Mapping[str, Any],
        score: Callable[[], ScoredSample],
    ) -> None:
        try:
            scored = score()
        except PisaError as error:
            self._fail(model, sample, str(error))
            return
        self.rows.append({**scored.row, **groups})
        if sample.clip in self._shown or len(self._shown) < self.shown_clips:
            self._shown.setdefault(sample.clip, {}).setdefault(model, scored.shown)

    def _fail(self, model: str, sample: Sample, reason: str) -> None:
        key = {"model": model, "split": self.scorer.split, "clip": sample.clip}
        self.failures.append({**key, "seed": sample.seed, "reason": reason})


def groups_of(clip: Clip, folder: Path) -> dict[str, Any]:
    """What the breakdown groups a clip by: objects in its first frame, scene if recorded."""
    scene = scene_of(read_info(folder), folder)
    groups: dict[str, Any] = {} if scene is None else {"scene": scene}
    return groups | {"num_objects": int(clip.masks[:, 0].any(dim=(-2, -1)).sum())}
