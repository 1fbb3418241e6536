"""What the analyses of section 5 share: their clips, samples of a model, and the tracked masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import nn

from pisa.bench.references import VideoSource, true_video
from pisa.bench.score import track_dropping
from pisa.data.clip_info import study_of
from pisa.data.clip_io import read_clip
from pisa.data.manifest import data_sha256, list_clips
from pisa.io.files import write_atomic
from pisa.launch.compose import EvalRun, build_model
from pisa.launch.model_videos import make_tracker, model_videos
from pisa.launch.outcome import provenance_of
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.ops.drop_ray import DropRay
from pisa.perception.base import Tracker
from pisa.section5.drop_time import DropTimes
from pisa.simulation.ambiguous import AmbiguousPrior
from pisa.types import Camera, Clip, PisaError, collate


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


def study_clips(run: EvalRun, name: str, kind: str, limit: int | None = None) -> list[StudyClip]:
    """The clips of a data set, simulated when they are missing.

    Raises ``PisaError`` for a set that is unknown or of another kind.
    """
    paths = list_clips(run.sets.make(name))[:limit]
    studies = [study_of(path, kind) for path in paths]
    clips = [read_clip(path, num_frames=run.data.settings["num_frames"]) for path in paths]
    return [StudyClip(clip, study) for clip, study in zip(clips, studies, strict=True)]


def model_and_tracker(run: EvalRun) -> tuple[VideoSource, Tracker]:
    """Samples of ``load_scored_model``; and the tracker."""
    model, device = load_scored_model(run)
    return model_videos(run.evaluation, model, device), make_tracker(run.tracker, device)


def load_scored_model(run: EvalRun) -> tuple[VideoModel, torch.device]:
    """The model of the checkpoint ``ckpt=...``, or the base model without one, on its device."""
    device = pick_device(run.evaluation.device)
    model = build_model(run.model, run.ckpt)
    if isinstance(model, nn.Module):
        model.to(device)
    model.denoiser.eval()
    return model, device


def row_name(run: EvalRun) -> str:
    """``base`` without a checkpoint, else ``name=``."""
    return "base" if run.ckpt is None else run.name


def sampled_masks(
    run: EvalRun, source: VideoSource, tracker: Tracker, clip: Clip, num_samples: int
) -> Iterator[Bool[np.ndarray, "t h w"]]:
    """Masks of the object in samples of one first frame, one after another.

    Sample ``k`` has noise of its own, whatever the batch size. Raises ``PisaError`` for samples
    that aren't finite: a tracker would find no object in them, which would pass for a result.
    """
    size, device = run.evaluation.batch_size, pick_device(run.evaluation.device)
    for start in range(0, num_samples, size):
        numbers = range(start, min(start + size, num_samples))
        batch = collate([replace(clip, name=f"{clip.name}.{k}") for k in numbers])
        batch = batch.to(device)
        video = source(batch, run.evaluation.seed)
        if not video.isfinite().all():
            raise PisaError(f"samples of {clip.name} hold NaN or infinity: is {run.ckpt} sound?")
        yield from track_dropping(video, batch, tracker).cpu().numpy()


def true_masks(
    run: EvalRun,
    name: str,
    item: StudyClip,
    count: int,
    tracker: Tracker,
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
    spec = run.sets.spec(name)
    backend: Any = spec.simulator
    prior = backend.prior
    if not isinstance(prior, AmbiguousPrior):
        raise PisaError(f"data set {name!r} has no other drops of one first frame")
    simulator = replace(backend, prior=replace(prior, trajectories=count, even_depths=even_depths))
    first, device = int(item.study["group"]) * count, pick_device(run.evaluation.device)
    for member in range(count):
        clip, _ = simulator.make_clip(first + member, spec.split, f"{member}")
        batch = collate([replace(clip, depth_m=None, poses=None)]).to(device)
        video = videos(batch, run.evaluation.seed)
        yield from track_dropping(video, batch, tracker).cpu().numpy()


def write_study(run: EvalRun, analysis: str, data_set: str, content: Mapping[str, Any]) -> Path:
    """``FOLDER/ANALYSIS.json``: the content with schema, settings and provenance."""
    keys = ("num_steps", "guidance", "eta", "bfloat16", "seed")
    settings = {key: getattr(run.evaluation, key) for key in keys}
    record = {
        "schema": 1,
        "analysis": analysis,
        "data_set": data_set,
        "ckpt": None if run.ckpt is None else str(run.ckpt),
        "settings": settings,
        **content,
        "provenance": provenance_of(run, data_hash(run, data_set)),
    }
    path = run.folder / f"{analysis}.json"
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode())
    return path


def data_hash(run: EvalRun, data_set: str) -> str:
    """Name and content hash of a data set, for the provenance."""
    return f"{data_set}:{data_sha256(run.sets.make(data_set))}"


def means_of(values: Sequence[float | None]) -> str:
    """A row of numbers for the terminal; a dash where one is unknown."""
    return "  ".join("-" if value is None else f"{value:.3f}" for value in values)
