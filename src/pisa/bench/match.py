"""Match the videos of a folder with the clips of the benchmark.

The rule: the name of a video file without its extension, or of a folder of frames, is the clip's
name, optionally followed by ``_sK`` for sample (seed) K: ``000012.mp4`` and ``000012_s0.mp4`` are
seed 0 of clip 000012, ``000012_s1.webm`` is seed 1. A name that is a clip's name as a whole is
never split. Upper and lower case and leading zeros matter. A seed that one clip has is expected of
all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pisa.data.image_files import holds_frames
from pisa.data.video_files import VIDEO_SUFFIXES
from pisa.errors import PisaError, reason

_SAMPLE = re.compile(r"(.+)_s(\d{1,6})")


@dataclass(frozen=True)
class Sample:
    """One (clip, seed) of the benchmark and its video; ``problem`` says why there is none."""

    clip: str
    seed: int
    path: Path | None
    problem: str = ""


@dataclass(frozen=True)
class Matches:
    """``samples`` in order of the benchmark's clips and seeds; ``extra`` belongs to no clip."""

    samples: tuple[Sample, ...]
    extra: tuple[Path, ...] = field(default=())

    @property
    def missing(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if sample.path is None)


def match_videos(folder: Path, clips: Sequence[str], known: Iterable[str] = ()) -> Matches:
    """Match the videos of ``folder`` (not of its subfolders) with ``clips``.

    ``known`` are further clips of the benchmark that are not to be scored: their videos are not
    extra. Two videos for one sample are a problem of that sample, not a choice made silently.
    Raises ``PisaError`` when the folder cannot be read or holds no video at all.
    """
    everything = set(clips) | set(known)
    found: dict[tuple[str, int], list[Path]] = {}
    extra = []
    entries = _entries(folder)
    for path in entries:
        name, seed = split_name(_stem(path), everything)
        if name in everything and _is_video(path):
            found.setdefault((name, seed), []).append(path)
        elif name not in everything or path.suffix != ".json":  # a record beside its video
            extra.append(path)
    if not found:
        raise PisaError(
            f"{folder}: none of its {len(entries)} entries is a video of this benchmark "
            f"(expected names like {next(iter(clips), 'NAME')}.mp4)"
        )
    seeds = sorted({seed for name, seed in found if name in set(clips)}) or [0]
    samples = [_sample(clip, seed, found.get((clip, seed), [])) for clip in clips for seed in seeds]
    return Matches(tuple(samples), tuple(extra))


def split_name(stem: str, clips: set[str]) -> tuple[str, int]:
    """Clip name and seed of a video's name; see the rule at the top."""
    match = _SAMPLE.fullmatch(stem)
    if stem in clips or match is None:
        return stem, 0
    return match[1], int(match[2])


def _sample(clip: str, seed: int, paths: Sequence[Path]) -> Sample:
    if len(paths) == 1:
        return Sample(clip, seed, paths[0])
    if not paths:
        return Sample(clip, seed, None, "missing: there is no video of this name")
    names = ", ".join(path.name for path in paths)
    return Sample(clip, seed, None, f"ambiguous: {len(paths)} videos ({names}); keep one")


def _is_video(path: Path) -> bool:
    return holds_frames(path) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _entries(folder: Path) -> list[Path]:
    """Everything in the folder but hidden files, by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise PisaError(f"{folder}: cannot read the videos: {reason(error)}") from error
