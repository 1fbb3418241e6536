"""``eval.py experiment=drop_time | lift3d | ood | forced_choice``: analyses of one checkpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pisa.bench.collect import Collection
from pisa.bench.references import REFERENCES, CodecVideos, ModelSource
from pisa.bench.score import Scorer
from pisa.data.manifest import data_sha256
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.io.progress import clip_progress
from pisa.launch.results import document_of, provenance_of, publish
from pisa.launch.runs import EvalRun, build_model, build_tracker
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.ranges import Count, WholeNumber
from pisa.reports.html import Page
from pisa.section5 import forced_choice, ood
from pisa.section5.drop_study import drop_models, drop_tracks
from pisa.section5.drop_time import require_samples
from pisa.section5.lift3d import lift_models
from pisa.section5.study import StudyClip, Subject, study_clips


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
    codec, not to a denoiser. ``drop_tracks.npz`` keeps the object's pixels per row and frame, from
    which drop times were read.
    """
    require_samples(num_samples)
    if truth_samples:
        require_samples(truth_samples, "source.truth_samples")
    if even_drops:
        require_samples(even_drops, "source.even_drops")
    subject, model = load_scored_model(run)
    items = _study_clips(run, data_set, "ambiguous", num_images)
    tracks = drop_tracks(
        subject,
        CodecVideos(model, run.evaluation.bfloat16),
        run.sets.spec(data_set),
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
    _write_study(run, "drop_time", data_set, _origin(run, data_set, subject), models=models)


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
    subject, _ = load_scored_model(run)
    items = _study_clips(run, data_set, "ambiguous", num_images)
    models = lift_models(subject, items, num_samples)
    for name, result in models.items():
        summary = result["summary"]
        print(
            f"{name}: {summary['n']} of {summary['clips']} clips hit the floor; distance to a "
            f"possible fall in m, quartiles: {_numbers(summary['rms_m_quartiles'])}; "
            f"{summary['statuses']}"
        )
    depth_range_m = list(items[0].study["depth_range_m"])
    origin = _origin(run, data_set, subject)
    _write_study(run, "lift3d", data_set, origin, models=models, depth_range_m=depth_range_m)


def run_ood(run: EvalRun, *, data_set: str, num_clips: Count | None) -> None:
    """Section 5.1: Table 2 (splits ``id`` and ``ood``), and by depth and height in ``ood.json``.

    Raises ``IncompleteError`` as ``publish`` does.
    """
    subject, _ = load_scored_model(run)
    items = _study_clips(run, data_set, "ood", num_clips)
    sources = {**REFERENCES, subject.row: subject.videos}
    scorer = Scorer(subject.tracker, run.evaluation.protocol, subject.device, run.evaluation.prompt)
    collection = Collection()
    with clip_progress() as progress:
        for name, videos in sources.items():
            task = progress.add_task(f"scoring {name}", total=len(items))
            for _ in ood.score_ood(
                scorer, videos, items, collection, name, subject.batch_size, subject.seed
            ):
                progress.advance(task)
    origin = _origin(run, data_set, subject)
    document = document_of(run, collection, origin)
    rows = document["per_clip"]
    models = {
        name: {
            "table": ood.table(document["summary"][name]),
            "grid": ood.grid([row for row in rows if row["model"] == name]),
        }
        for name in document["summary"]
    }
    kept = {"models": models, "per_clip": rows, "failures": document["failures"]}
    _write_study(run, "ood", data_set, origin, **kept)
    publish(
        run,
        document,
        subject.row,
        Page(
            title=f"In and out of distribution: {subject.row}",
            videos=collection.videos,
            fps_hz=items[0].clip.fps_hz,
        ),
    )


def run_forced_choice(run: EvalRun, *, data_set: str, num_scenes: Count, num_levels: Count) -> None:
    """After LikePhys (arXiv:2510.11512): is the true fall likelier than impossible ones?"""
    subject, model = load_scored_model(run)
    choices = []
    with clip_progress() as progress:
        task = progress.add_task("comparing motions", total=num_scenes)
        for choice in forced_choice.choose(
            model,
            run.sets.spec(data_set),
            num_scenes,
            num_frames=run.data.settings["num_frames"],
            caption=run.evaluation.caption,
            num_levels=num_levels,
            seed=subject.seed,
            device=subject.device,
        ):
            choices.append(choice)
            progress.advance(task)
    table = forced_choice.preferred(choices, subject.seed)
    print(f"{subject.row}: share of {len(choices)} scenes whose true fall has the lower loss")
    for label, cell in table.items():
        low, high = cell["ci95"]
        print(f"  than {label}: {cell['share']:.2f} [{low:.2f}, {high:.2f}]")
    losses = {choice.scene: dict(choice.losses) for choice in choices}
    origin = provenance_of(run, f"{data_set}: {len(choices)} scenes", subject.tracker)
    _write_study(run, "forced_choice", data_set, origin, preferred=table, losses=losses)


def load_scored_model(run: EvalRun) -> tuple[Subject, VideoModel]:
    """The model of the checkpoint ``ckpt=...``, or the base model without one, on its device."""
    settings, device = run.evaluation, pick_device(run.evaluation.device)
    model = build_model(run.model, run.ckpt)
    model.to(device)
    model.denoiser.eval()
    subject = Subject(
        row="base" if run.ckpt is None else run.name,
        videos=ModelSource(model, settings),
        tracker=build_tracker(run.tracker, device),
        device=device,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    return subject, model


def _study_clips(run: EvalRun, data_set: str, kind: str, limit: int | None) -> list[StudyClip]:
    """The clips of a data set, simulated when they are missing."""
    return study_clips(run.sets.make(data_set), kind, run.data.settings["num_frames"], limit)


def _origin(run: EvalRun, data_set: str, subject: Subject) -> dict[str, Any]:
    """The provenance, with name and content hash of the data set."""
    data = f"{data_set}:{data_sha256(run.sets.make(data_set))}"
    return provenance_of(run, data, subject.tracker)


def _write_study(
    run: EvalRun, analysis: str, data_set: str, origin: dict[str, Any], **content: Any
) -> None:
    """``FOLDER/ANALYSIS.json``: the content with schema, settings and provenance."""
    keys = ("num_steps", "guidance", "eta", "bfloat16", "seed")
    record = {
        "schema": 1,
        "analysis": analysis,
        "data_set": data_set,
        "ckpt": None if run.ckpt is None else str(run.ckpt),
        "settings": {key: getattr(run.evaluation, key) for key in keys},
        **content,
        "provenance": origin,
    }
    path = run.folder / f"{analysis}.json"
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode())
    print(f"results: {path}")


def _numbers(values: Sequence[float | None]) -> str:
    """A row of numbers for the terminal; a dash where one is unknown."""
    return "  ".join("-" if value is None else f"{value:.3f}" for value in values)
