"""The three analyses of section 5 for one model, from its samples to the content of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pisa.bench.collect import Collection
from pisa.bench.references import VideoSource, true_video
from pisa.bench.score import Scorer
from pisa.io.progress import clip_progress
from pisa.section5 import drop_study, lift3d, ood
from pisa.section5.impact import Drop, count_rows, count_statuses, read_drop
from pisa.section5.study import Simulated, StudyClip, Subject, sampled_masks, true_masks
from pisa.types import collate

_EVEN = "even"  # among the tracks
Tracks = dict[str, np.ndarray]


def drop_tracks(
    subject: Subject,
    codec: VideoSource,
    simulated: Simulated,
    items: Sequence[StudyClip],
    *,
    num_samples: int,
    truth_samples: int,
    even_drops: int,
) -> Tracks:
    """``count_rows`` of every sample in [images, samples, frames, h], by row of the results.

    ``truth_samples`` of each first frame are simulated too, and tracked alike, as they are (row
    ``truth``) and encoded and decoded (row ``codec``). ``even_drops`` are simulated at evenly
    spaced depths. 0 leaves either out.
    """
    tracks: dict[str, list[list[np.ndarray]]] = {}
    each = even_drops + 2 * truth_samples + num_samples
    with clip_progress() as progress:
        task = progress.add_task("drop times", total=len(items) * each)
        for item in items:
            drops = {
                _EVEN: true_masks(subject, simulated, item, even_drops, even_depths=True),
                "truth": true_masks(subject, simulated, item, truth_samples),
                "codec": true_masks(subject, simulated, item, truth_samples, videos=codec),
                subject.row: sampled_masks(subject, item.clip, num_samples),
            }
            for name, clips in drops.items():
                found = []
                for masks in clips:
                    found.append(count_rows(masks))
                    progress.advance(task)
                if found:
                    tracks.setdefault(name, []).append(found)
    return {name: np.array(found) for name, found in tracks.items()}


def drop_models(items: Sequence[StudyClip], tracks: Tracks) -> dict[str, Any]:
    """The tests of each row's drop times, as in drop_time.json."""
    drops = {
        name: [[read_drop(track) for track in image] for image in images]
        for name, images in tracks.items()
    }
    even = drops.pop(_EVEN, None)
    return {name: _fit(items, found, even) for name, found in drops.items()}


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


def lift_models(subject: Subject, items: Sequence[StudyClip], num_samples: int) -> dict[str, Any]:
    """Trajectories of the true clips and of samples lifted to 3D, as in lift3d.json."""
    sources = {"truth": (true_video, 1), subject.row: (subject.videos, num_samples)}
    lifted: dict[str, list[tuple[str, lift3d.Lifted]]] = {name: [] for name in sources}
    with clip_progress() as progress:
        task = progress.add_task("lifting", total=len(items) * (1 + num_samples))
        for item in items:
            for name, (videos, count) in sources.items():
                for masks in sampled_masks(subject, item.clip, count, videos):
                    lifted[name].append((item.clip.name, _lift(item, masks, name)))
                    progress.advance(task)
    return {
        name: {
            "summary": lift3d.summarise([clip for _, clip in found]),
            "clips": [{"image": image, **lift3d.plain(clip)} for image, clip in found],
        }
        for name, found in lifted.items()
    }


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


def score_ood(
    scorer: Scorer,
    source: VideoSource,
    items: Sequence[StudyClip],
    collection: Collection,
    model: str,
    batch_size: int,
    seed: int,
) -> Iterator[str]:
    """Score one model; yields the name of each clip when it is done.

    A row's split is ``id`` or ``ood``; it carries the clip's depth and height.
    """
    for label in ood.LABELS:
        chosen = [item for item in items if ood.label_of(item.study) == label]
        studies = {item.clip.name: item.study for item in chosen}
        groups = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        batches = [collate([item.clip for item in group]) for group in groups]
        for result in scorer.score_source(source, batches, model=model, split=label, seed=seed):
            clip = result.clip
            study = studies[clip]
            collection.add(result, depth_m=study["depth_m"], height_m=study["height_m"])
            yield clip
