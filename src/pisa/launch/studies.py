"""``eval.py experiment=drop_time | lift3d``: section 5.2 of the paper for one checkpoint."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pisa.bench.references import VideoSource, true_video
from pisa.io.files import write_atomic
from pisa.io.progress import clip_progress
from pisa.launch.compose import EvalRun
from pisa.launch.model_videos import codec_videos, make_tracker, model_videos
from pisa.launch.study_clips import (
    StudyClip,
    load_scored_model,
    means_of,
    model_and_tracker,
    row_name,
    sampled_masks,
    study_clips,
    true_masks,
    write_study,
)
from pisa.ranges import Count, WholeNumber
from pisa.section5 import drop_study, lift3d
from pisa.section5.drop_tests import require_samples
from pisa.section5.impact import Drop, count_rows, count_statuses, read_drop
from pisa.types import PisaError

_EVEN = "even"  # in drop_tracks.npz


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

    ``truth_samples`` of each first frame are simulated too, and tracked alike, as they are (row
    ``truth``) and encoded and decoded (row ``codec``): what the first fails is the fault of tracker
    and frame rate, what the second fails that of the codec, not of a denoiser. ``even_drops`` are
    simulated at evenly spaced depths, for the test against what true drops are read as
    (``p_read``). 0 leaves either out. ``drop_tracks.npz`` keeps what drop times were read from,
    ``count_rows`` in [images, samples, frames, h] by row, the even drops under ``even``.
    """
    require_samples(num_samples)
    if truth_samples:
        require_samples(truth_samples, "source.truth_samples")
    if even_drops:
        require_samples(even_drops, "source.even_drops")
    model, device = load_scored_model(run)
    source, tracker = model_videos(run.evaluation, model, device), make_tracker(run.tracker, device)
    codec = codec_videos(run.evaluation, model, device)
    items = study_clips(run, data_set, "ambiguous", num_images)
    tracks: dict[str, list[list[np.ndarray]]] = {}
    each = even_drops + 2 * truth_samples + num_samples
    with clip_progress() as progress:
        task = progress.add_task("drop times", total=len(items) * each)
        for item in items:
            drops = {
                _EVEN: true_masks(run, data_set, item, even_drops, tracker, even_depths=True),
                "truth": true_masks(run, data_set, item, truth_samples, tracker),
                "codec": true_masks(run, data_set, item, truth_samples, tracker, videos=codec),
                row_name(run): sampled_masks(run, source, tracker, item.clip, num_samples),
            }
            for name, clips in drops.items():
                found = []
                for masks in clips:
                    found.append(count_rows(masks))
                    progress.advance(task)
                if found:
                    tracks.setdefault(name, []).append(found)
    rows = {name: np.array(found) for name, found in tracks.items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **rows)
    write_atomic(run.folder / "drop_tracks.npz", packed.getvalue())
    drops_of = {
        name: [[read_drop(track) for track in image] for image in images]
        for name, images in rows.items()
    }
    even = drops_of.pop(_EVEN, None)
    models = {name: _fit(items, found, even) for name, found in drops_of.items()}
    for name, result in models.items():
        summary = result["summary"]
        print(f"{name}: {summary['passed']} of {summary['images']} images pass at 0.05")
        print(f"{name}: {summary['statuses']}")
    print(f"results: {write_study(run, 'drop_time', data_set, {'models': models})}")


def _fit(
    items: Sequence[StudyClip],
    drops: Sequence[Sequence[Drop]],
    even: Sequence[Sequence[Drop]] | None,
) -> dict[str, Any]:
    clip = items[0].clip
    num_frames, fps_hz = clip.video.shape[1], clip.fps_hz
    fits = []
    for i, (item, found) in enumerate(zip(items, drops, strict=True)):
        frames = np.array([drop.category(num_frames) for drop in found])
        read_shares = None
        if even is not None:
            read = [drop.category(num_frames) for drop in even[i]]
            read_shares = np.bincount(read, minlength=num_frames + 1) / len(read)
        fits.append(
            drop_study.fit_image(
                item.clip.name,
                frames,
                item.drop_times,
                fps_hz,
                num_frames,
                read_shares=read_shares,
                statuses=count_statuses(found),
                seed=i,
            )
        )
    return drop_study.document(drop_study.correct(fits), fps_hz, num_frames)


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
    source, tracker = model_and_tracker(run)
    items = study_clips(run, data_set, "ambiguous", num_images)
    sources: dict[str, tuple[VideoSource, int]] = {
        "truth": (true_video, 1),
        row_name(run): (source, num_samples),
    }
    lifted: dict[str, list[tuple[str, lift3d.Lifted]]] = {name: [] for name in sources}
    with clip_progress() as progress:
        task = progress.add_task("lifting", total=len(items) * (1 + num_samples))
        for item in items:
            for name, (videos, count) in sources.items():
                for masks in sampled_masks(run, videos, tracker, item.clip, count):
                    lifted[name].append((item.clip.name, _lift(item, masks, name)))
                    progress.advance(task)
    models: dict[str, dict[str, Any]] = {
        name: {
            "summary": lift3d.summarise([clip for _, clip in found]),
            "clips": [{"image": image, **lift3d.plain(clip)} for image, clip in found],
        }
        for name, found in lifted.items()
    }
    for name, result in models.items():
        summary = result["summary"]
        print(
            f"{name}: {summary['n']} of {summary['clips']} clips hit the floor; distance to a "
            f"possible fall in m, quartiles: {means_of(summary['rms_m_quartiles'])}; "
            f"{summary['statuses']}"
        )
    depth_range_m = list(items[0].study["depth_range_m"])
    content = {"models": models, "depth_range_m": depth_range_m}
    print(f"results: {write_study(run, 'lift3d', data_set, content)}")


def _lift(item: StudyClip, masks: np.ndarray, model: str) -> lift3d.Lifted:
    low, high = item.study["depth_range_m"]
    return lift3d.lift(
        masks,
        item.camera,
        item.clip.fps_hz,
        (low, high),
        slope=item.study["slope"],
        depth_m=item.study["depth_m"] if model == "truth" else None,
    )
