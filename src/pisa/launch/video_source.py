"""``source=videos``: scores for a folder of anyone's videos against a split of PisaBench."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pisa.bench.sample_score import REFERENCES, SHOWN_FPS_HZ, SampleScorer
from pisa.bench.video_match import Matches, Sample, match_videos
from pisa.bench.video_run import VideoRun
from pisa.data.manifest import clip_sha256
from pisa.data.video_files import Footage, Limits, parse_fit, read_footage
from pisa.io.progress import clip_progress
from pisa.launch.benchmark import benchmark_clips, benchmark_size
from pisa.launch.compose import public_yaml
from pisa.launch.outcome import provenance_of, publish
from pisa.launch.targets import instantiate
from pisa.metrics.pair import parse_protocol
from pisa.ops.devices import pick_device
from pisa.perception.base import Tracker
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.perception.mask_cache import CachedTracker, tracker_identity
from pisa.reports.metrics_json import build_metrics
from pisa.reports.published import published_table_1
from pisa.types import Clip, PisaError

_LISTED = 10  # names of missing or extra videos that are printed


def score_videos(
    cfg: DictConfig,
    folder: Path,
    *,
    path: str | None,
    fps_hz: float | None,
    size: Sequence[int] | None,
    fit: str,
    references: Sequence[str],
    mask_cache: str,
    device: str,
    shown_clips: int,
    limits: Limits,
    row: str = "videos",
) -> None:
    """Score the videos of ``path``; configs/source/videos.yaml explains the settings.

    ``row`` is what configs/eval.yaml takes for ``name``. Raises ``IncompleteError`` where samples
    failed (see ``publish``), other ``PisaError``s for mistakes, before any work.
    """
    if path is None:
        raise PisaError("source.path=DIR is needed: the folder of the videos")
    model, split = str(cfg.name), cfg.benchmark
    protocol = parse_protocol(cfg.evaluation.protocol).value
    parse_fit(fit)
    _check_names(model, references)
    every = benchmark_clips(cfg, split)
    clips = {clip.name: clip for clip in every[: cfg.evaluation.num_clips]}
    matches = match_videos(Path(path), list(clips), [clip.name for clip in every])
    _print_matches(matches)

    def read(video: Path, clip: Clip) -> Footage:
        frame_size = (clip.video.shape[2], clip.video.shape[3])
        return read_footage(
            video, frame_size, expected_fps_hz=clip.fps_hz, fps_hz=fps_hz, fit=fit, limits=limits
        )

    place = pick_device(device)
    tracker = cached_tracker(cfg, mask_cache, place)
    if split == "real" and isinstance(tracker.tracker, EmbeddedTracker):
        print("note: perception=embedded knows simulated clips only; the paper's is pretrained")
    scorer = SampleScorer(tracker, protocol, split, place)
    clip_size = benchmark_size(split, size)
    run = VideoRun(scorer, model, read, clip_size, references, shown_clips)
    with clip_progress() as progress:
        task = progress.add_task(f"scoring {model}", total=len(clips))
        for name, samples in groupby(matches.samples, key=lambda sample: sample.clip):
            run.score_clip(clips[name], list(samples))
            progress.advance(task)
    print(f"masks: {tracker.hits} out of the cache {tracker.folder}, {tracker.misses} made now")
    data = f"{split}:{_clips_sha256(list(clips.values()))} videos:{_videos_sha256(matches.samples)}"
    metrics = build_metrics(
        run.rows, run.failures, protocol=protocol, provenance=provenance_of(cfg, data)
    )
    metrics["extra_videos"] = [entry.name for entry in matches.extra]
    publish(
        metrics,
        folder,
        model=model,
        allow_missing=bool(cfg.allow_missing),
        title=f"PisaBench: {model}",
        videos=run.videos,
        config_text=public_yaml(cfg),
        published=published_table_1() if cfg.evaluation.show_published else (),
        fps_hz=SHOWN_FPS_HZ,
    )


def cached_tracker(cfg: DictConfig, folder: str, device: torch.device) -> CachedTracker:
    """The configured tracker with its masks kept in ``folder``."""
    tracker: Tracker = instantiate(cfg.perception.tracker)
    settings = OmegaConf.to_yaml(cfg.perception.tracker, resolve=True, sort_keys=True)
    identity = tracker_identity(tracker, settings)
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    return CachedTracker(tracker, folder, identity)


def _check_names(model: str, references: Sequence[str]) -> None:
    known = ", ".join(REFERENCES)
    if model in REFERENCES:
        raise PisaError(f"name={model} is taken: {known} are the reference rows")
    unknown = [name for name in references if name not in REFERENCES]
    if unknown:
        raise PisaError(f"no reference named {unknown[0]!r}; valid: {known}")


def _print_matches(matches: Matches) -> None:
    found = len(matches.samples) - len(matches.missing)
    print(f"videos: {found} of {len(matches.samples)} expected, {len(matches.extra)} extra")
    missing = [f"{s.clip} (seed {s.seed})" for s in matches.missing]
    for label, names in (("missing", missing), ("extra", [e.name for e in matches.extra])):
        if names:
            rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            print(f"{label}: {', '.join(names[:_LISTED])}{rest}")


def _clips_sha256(clips: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.name} {clip_sha256(clip)}\n".encode())
    return digest.hexdigest()


def _videos_sha256(samples: Sequence[Sample]) -> str:
    """Of the videos' bytes; those that cannot be read count as such."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.clip} {sample.seed} ".encode())
        if sample.path is None:
            continue
        files = sorted(sample.path.iterdir()) if sample.path.is_dir() else [sample.path]
        for file in files:
            try:
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError:
                digest.update(b"unreadable")
    return digest.hexdigest()
