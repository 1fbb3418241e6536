"""Clips, model samples and tracked masks for the analyses of section 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from pisa.bench.references import VideoSource, true_video
from pisa.bench.score import track_dropping
from pisa.data.clip_info import study_of
from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay
from pisa.perception.base import Tracker
from pisa.section5.drop_time import DropTimes
from pisa.simulation.ambiguous import AmbiguousPrior
from pisa.simulation.produce import DataSetSpec
from pisa.types import Camera, Clip, collate


@dataclass(frozen=True)
class StudyClip:
    """A clip and what its simulator recorded for the analyses."""

    clip: Clip
    study: Mapping[str, Any]

    @property
    def camera(self) -> Camera:
        if self.clip.camera is None:
            raise PisaError(f"clip {self.clip.name} records no camera, which this analysis needs")
        return self.clip.camera

    @property
    def drop_times(self) -> DropTimes:
        """``p(t | y)`` of the first frame; of ambiguous clips only."""
        camera, (low, high) = self.camera, self.study["depth_range_m"]
        ray = DropRay(self.study["slope"], camera.position_m[2], camera.focal_mm / 1000)
        return DropTimes(ray, (low, high))


@dataclass(frozen=True)
class Subject:
    """The model that is analysed, as ``row`` of the results, and the tracker of its objects."""

    row: str
    videos: VideoSource
    tracker: Tracker
    device: torch.device
    batch_size: int
    seed: int


def study_clips(
    folder: Path, kind: str, num_frames: int | None, limit: int | None = None
) -> list[StudyClip]:
    """Clips of a data set, at most ``limit``, evenly spaced: some sets are ordered by slope.

    Raises ``PisaError`` for a set of another kind.
    """
    paths = list_clips(folder)
    if limit is not None and limit < len(paths):
        paths = [paths[k * len(paths) // limit] for k in range(limit)]
    studies = [study_of(path, kind) for path in paths]
    clips = [read_clip(path, num_frames=num_frames) for path in paths]
    return [StudyClip(clip, study) for clip, study in zip(clips, studies, strict=True)]


def sampled_masks(
    subject: Subject, clip: Clip, num_samples: int, videos: VideoSource | None = None
) -> Iterator[Bool[np.ndarray, "t h w"]]:
    """Masks of the object in samples of one first frame, one after another.

    Sample ``k`` has noise of its own, whatever the batch size. ``videos`` replaces the subject's.
    Raises ``PisaError`` for samples that aren't finite: a tracker would find no object in them,
    which would pass for a result.
    """
    source = subject.videos if videos is None else videos
    for start in range(0, num_samples, subject.batch_size):
        numbers = range(start, min(start + subject.batch_size, num_samples))
        batch = collate([replace(clip, name=f"{clip.name}.{k}") for k in numbers])
        batch = batch.to(subject.device)
        video = source(batch, subject.seed)
        if not video.isfinite().all():
            raise PisaError(
                f"samples of {clip.name} hold NaN or infinity: are the weights of {subject.row!r} "
                "sound?"
            )
        yield from track_dropping(video, batch, subject.tracker).cpu().numpy()


def true_masks(
    subject: Subject,
    spec: DataSetSpec,
    item: StudyClip,
    count: int,
    *,
    even_depths: bool = False,
    videos: VideoSource = true_video,
) -> Iterator[Bool[np.ndarray, "t h w"]]:
    """Tracked masks of simulated clips with the first frame of an ambiguous one, at new depths.

    Those are drawn, or evenly spaced. ``videos`` may make something else of the clips.

    Raises ``PisaError`` where the data set has no other drops of that frame.
    """
    if not count:
        return
    backend: Any = spec.simulator
    prior = backend.prior
    if not isinstance(prior, AmbiguousPrior):
        raise PisaError("the data set has no other drops of one first frame")
    more = replace(prior, trajectories=count, even_depths=even_depths)
    simulator = replace(backend, prior=more)
    first = int(item.study["group"]) * count
    for member in range(count):
        clip, _ = simulator.make_clip(first + member, spec.split, f"{member}")
        batch = collate([replace(clip, depth_m=None, poses=None)]).to(subject.device)
        video = videos(batch, subject.seed)
        yield from track_dropping(video, batch, subject.tracker).cpu().numpy()
