"""``eval.py experiment=drop_time | lift3d | ood``: section 5 of the paper for one checkpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pisa.bench.collect import Collection
from pisa.bench.references import REFERENCES, Autocast, CodecVideos
from pisa.bench.score import Scorer
from pisa.data.manifest import data_sha256
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.io.progress import clip_progress
from pisa.launch.evaluate import model_videos
from pisa.launch.results import provenance_of, publish
from pisa.launch.runs import EvalRun, build_model, build_tracker
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.perception.base import Tracker
from pisa.ranges import Count, WholeNumber
from pisa.section5 import ood
from pisa.section5.drop_tests import require_samples
from pisa.section5.run import drop_models, drop_tracks, lift_models, score_ood
from pisa.section5.study import Simulated, StudyClip, Subject, study_clips


def run_drop_time(
    run: EvalRun,
    *,
    data_set: str,
    num_images: Count | None,
    num_samples: Count,
    truth_samples: WholeNumber,
    even_drops: WholeNumber,
) -> None:
    """Section 5.2, test (2): do the drop times of many samples follow ``p(t | y)``?

    Failures of row ``truth`` are due to the tracker and the frame rate, those of ``codec`` to the
    codec, not to a denoiser. ``drop_tracks.npz`` keeps what drop times were read from.
    """
    require_samples(num_samples)
    if truth_samples:
        require_samples(truth_samples, "source.truth_samples")
    if even_drops:
        require_samples(even_drops, "source.even_drops")
    model, device = load_scored_model(run)
    subject = _subject(run, model, device)
    items = _items(run, data_set, "ambiguous", num_images)
    spec, codec = run.sets.spec(data_set), CodecVideos(model)
    tracks = drop_tracks(
        subject,
        Autocast(codec, device) if run.evaluation.bfloat16 else codec,
        Simulated(spec.simulator, spec.split),
        items,
        num_samples=num_samples,
        truth_samples=truth_samples,
        even_drops=even_drops,
    )
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **tracks)
    write_atomic(run.folder / "drop_tracks.npz", packed.getvalue())
    models = drop_models(items, tracks)
    for name, result in models.items():
        summary = result["summary"]
        print(f"{name}: {summary['passed']} of {summary['images']} images pass at 0.05")
        print(f"{name}: {summary['statuses']}")
    print(
        f"results: {_write_study(run, 'drop_time', data_set, subject.tracker, {'models': models})}"
    )


def run_lift3d(
    run: EvalRun,
    *,
    data_set: str,
    num_images: Count | None,
    num_samples: Count,
) -> None:
    """Section 5.2, test (1): are the trajectories those of some fall in 3D?

    Raises ``PisaError`` without samples.
    """
    if num_samples < 1:
        raise PisaError("lift3d needs at least one sample of each image: raise source.num_samples")
    subject = _subject(run, *load_scored_model(run))
    items = _items(run, data_set, "ambiguous", num_images)
    models = lift_models(subject, items, num_samples)
    for name, result in models.items():
        summary = result["summary"]
        print(
            f"{name}: {summary['n']} of {summary['clips']} clips hit the floor; distance to a "
            f"possible fall in m, quartiles: {_numbers(summary['rms_m_quartiles'])}; "
            f"{summary['statuses']}"
        )
    content = {"models": models, "depth_range_m": list(items[0].study["depth_range_m"])}
    print(f"results: {_write_study(run, 'lift3d', data_set, subject.tracker, content)}")


def run_ood(
    run: EvalRun,
    *,
    data_set: str,
    num_clips: Count | None,
) -> None:
    """Section 5.1: Table 2 (splits ``id`` and ``ood``), and by depth and height in ``ood.json``.

    Raises ``IncompleteError`` as ``publish`` does.
    """
    settings = run.evaluation
    subject = _subject(run, *load_scored_model(run))
    items = _items(run, data_set, "ood", num_clips)
    sources = {**REFERENCES, subject.row: subject.videos}
    scorer = Scorer(subject.tracker, settings.protocol, subject.device)
    collected = Collection()
    with clip_progress() as progress:
        for name, videos in sources.items():
            task = progress.add_task(f"scoring {name}", total=len(items))
            for _ in score_ood(
                scorer, videos, items, collected, name, subject.batch_size, subject.seed
            ):
                progress.advance(task)
    rows = [row.as_dict() for row in collected.rows]
    models = {
        name: {"table": ood.table(own, subject.seed), "grid": ood.grid(own)}
        for name in sources
        if (own := [r for r in rows if r["model"] == name])
    }
    failures = [failure.as_dict() for failure in collected.failures]
    content = {"models": models, "per_clip": rows, "failures": failures}
    print(f"results: {_write_study(run, 'ood', data_set, subject.tracker, content)}")
    publish(
        run,
        collected,
        model=subject.row,
        title=f"In and out of distribution: {subject.row}",
        origin=provenance_of(run, _data_hash(run, data_set), subject.tracker),
        fps_hz=items[0].clip.fps_hz,
    )


def load_scored_model(run: EvalRun) -> tuple[VideoModel, torch.device]:
    """The model of the checkpoint ``ckpt=...``, or the base model without one, on its device."""
    device = pick_device(run.evaluation.device)
    model = build_model(run.model, run.ckpt)
    model.to(device)
    model.denoiser.eval()
    return model, device


def _subject(run: EvalRun, model: VideoModel, device: torch.device) -> Subject:
    settings = run.evaluation
    return Subject(
        row="base" if run.ckpt is None else run.name,
        videos=model_videos(settings, model, device),
        tracker=build_tracker(run.tracker, device),
        device=device,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )


def _items(run: EvalRun, data_set: str, kind: str, limit: int | None) -> list[StudyClip]:
    """The clips of a data set, simulated when they are missing."""
    return study_clips(run.sets.make(data_set), kind, run.data.settings["num_frames"], limit)


def _write_study(
    run: EvalRun, analysis: str, data_set: str, tracker: Tracker, content: Mapping[str, Any]
) -> Path:
    """``FOLDER/ANALYSIS.json``: the content with schema, settings and provenance."""
    keys = ("num_steps", "guidance", "eta", "bfloat16", "seed")
    record = {
        "schema": 1,
        "analysis": analysis,
        "data_set": data_set,
        "ckpt": None if run.ckpt is None else str(run.ckpt),
        "settings": {key: getattr(run.evaluation, key) for key in keys},
        **content,
        "provenance": provenance_of(run, _data_hash(run, data_set), tracker),
    }
    path = run.folder / f"{analysis}.json"
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode())
    return path


def _data_hash(run: EvalRun, data_set: str) -> str:
    """Name and content hash of a data set, for the provenance."""
    return f"{data_set}:{data_sha256(run.sets.make(data_set))}"


def _numbers(values: Sequence[float | None]) -> str:
    """A row of numbers for the terminal; a dash where one is unknown."""
    return "  ".join("-" if value is None else f"{value:.3f}" for value in values)
