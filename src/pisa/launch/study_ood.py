"""``eval.py experiment=ood``: section 5.1 of the paper for one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pisa.bench.collect import Collection
from pisa.bench.references import REFERENCES, VideoSource
from pisa.bench.score import Scorer
from pisa.io.progress import clip_progress
from pisa.launch.compose import EvalRun
from pisa.launch.outcome import provenance_of, publish
from pisa.launch.study_clips import (
    StudyClip,
    data_hash,
    model_and_tracker,
    row_name,
    study_clips,
    write_study,
)
from pisa.ops.devices import pick_device
from pisa.ranges import Count
from pisa.reports.metrics_json import build_metrics
from pisa.section5 import ood
from pisa.types import collate


def run_ood(
    run: EvalRun,
    *,
    data_set: str,
    num_clips: Count | None,
) -> None:
    """Table 2 (splits ``id`` and ``ood``), and the same by depth and height in ``ood.json``.

    Raises ``IncompleteError`` as ``publish`` does.
    """
    source, tracker = model_and_tracker(run)
    items = study_clips(run, data_set, "ood", num_clips)
    model, settings = row_name(run), run.evaluation
    sources: dict[str, VideoSource] = {**REFERENCES, model: source}
    scorer = Scorer(tracker, run.evaluation.protocol, pick_device(run.evaluation.device))
    collected = Collection()
    with clip_progress() as progress:
        for name, videos in sources.items():
            task = progress.add_task(f"scoring {name}", total=len(items))
            for _ in score_ood(
                scorer,
                videos,
                items,
                collected,
                name,
                settings.batch_size,
                settings.seed,
            ):
                progress.advance(task)
    rows_of_all = [row.as_dict() for row in collected.rows]
    failures = [failure.as_dict() for failure in collected.failures]
    models = {
        name: {"table": ood.table(rows, run.evaluation.seed), "grid": ood.grid(rows)}
        for name in sources
        if (rows := [r for r in rows_of_all if r["model"] == name])
    }
    content = {"models": models, "per_clip": rows_of_all, "failures": failures}
    path = write_study(run, "ood", data_set, content)
    print(f"results: {path}")
    metrics = build_metrics(
        rows_of_all,
        failures,
        protocol=run.evaluation.protocol,
        provenance=provenance_of(run, data_hash(run, data_set), tracker),
    )
    publish(
        metrics,
        run.folder,
        model=model,
        allow_missing=run.allow_missing,
        title=f"In and out of distribution: {model}",
        videos=collected.videos,
        config_text=run.config_text,
        fps_hz=items[0].clip.fps_hz,
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
