"""``eval.py``: score a model, videos or mask pairs; train.py scores its stages here too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from pisa.bench.collect import Collection
from pisa.bench.references import REFERENCES, BestOf, ModelSource, VideoSource
from pisa.bench.score import Failure, Scored, Scorer
from pisa.data.loaders import ClipDataset, prepare_data_set
from pisa.data.manifest import data_sha256
from pisa.data.simulated import SimulatedDataModule
from pisa.errors import PisaError
from pisa.io.progress import clip_progress
from pisa.launch.generate import generate_and_score
from pisa.launch.results import document_of, passes_of, provenance_of, publish
from pisa.launch.runs import (
    SET_KEYS,
    EvalRun,
    RankInfo,
    build_data,
    build_model,
    build_tracker,
    claimed,
    prepare_torch,
)
from pisa.metrics.beyond import video_difference
from pisa.models.base import VideoModel
from pisa.ops.devices import pick_device
from pisa.ranges import Count
from pisa.reports.curves import read_csv_logger
from pisa.reports.html import Page
from pisa.reports.names import model_label
from pisa.reports.published import published_table_1
from pisa.rewards.base import Reward
from pisa.tasks.weights import load_weights

REAL = "real"
ALONE = RankInfo(0, 1, 0)
CURVES = ("train/reward", "val/reward", "train/loss", "val/loss", "train/gradient_norm")


def evaluate(run: EvalRun) -> None:
    """Score what the configuration group ``source`` names: a model, videos, or mask pairs.

    Raises ``PisaError`` under torchrun, unless a model is scored: only that is shared.
    """
    assert run.source is not None, "eval.yaml has a source"
    alone = run.source.target not in (score_models, score_best_of)
    if RankInfo.from_environment().world_size > 1 and alone:
        raise PisaError(
            "this source is scored in one process: start eval.py without torchrun "
            "(processes share the clips of source=model only)"
        )
    prepare_torch(run.seed)
    with claimed(run.folder, run.config_text):
        run.source.build()(run)


def score_models(run: EvalRun) -> None:
    """Score a checkpoint (``ckpt=...``) beside the base model and the two reference rows.

    A model with generation settings and ``benchmark=SPLIT`` has its videos generated, kept, and
    scored as videos.
    """
    if _generates(run):
        generate_and_score(run)
        return
    weights: dict[str, Path | None] = {"base": None}
    if run.ckpt is not None:
        build_model(run.model, run.ckpt)  # a wrong checkpoint fails before any work
        weights[run.name] = run.ckpt
    score_weights(run, weights, RankInfo.from_environment())


def score_best_of(run: EvalRun, count: Count, reward: Reward) -> None:
    """Score ``ckpt``, or the base model, with the best of ``count`` videos by ``reward``."""
    ranks = RankInfo.from_environment()
    reward = _as_measure(reward, ranks.device(pick_device(run.evaluation.device)))
    score_weights(run, {run.name: run.ckpt}, ranks, lambda source: BestOf(source, reward, count))


def score_weights(
    run: EvalRun,
    weights: Mapping[str, Path | None],
    ranks: RankInfo = ALONE,
    choose: Callable[[VideoSource], VideoSource] = lambda source: source,
) -> None:
    """Score ``truth``, ``frozen`` and one row per entry of ``weights`` (None: base model).

    ``choose`` makes the source of a model's videos another one. ``ranks`` share the clips; the
    first one writes. Raises ``IncompleteError`` after all is written where clips could not be
    scored.
    """
    settings, device = run.evaluation, ranks.device(pick_device(run.evaluation.device))
    scorer = Scorer(build_tracker(run.tracker, device), settings.protocol, device, settings.prompt)
    reward = None if run.reward is None else _as_measure(run.reward.build(), device)
    with ranks.first_alone():
        loaders = scored_loaders(run)
    clips = {split: cast(ClipDataset, loader.dataset) for split, loader in loaders.items()}
    order = {(split, path.name): i for split, c in clips.items() for i, path in enumerate(c.paths)}
    loaders = {split: _share(loader, ranks) for split, loader in loaders.items()}
    collection, model = Collection(), None
    before = dict(zip(list(weights)[1:], weights, strict=False))
    with clip_progress() as progress:
        for name in (*REFERENCES, *weights):
            source: VideoSource
            if name in REFERENCES:
                source = REFERENCES[name]
            else:
                model = _with_weights(model, run, weights[name], device)
                frames = run.data.settings["num_frames"]
                source = choose(ModelSource(model, settings, frames))
            mine = sum(len(loader.sampler) for loader in loaders.values())  # type: ignore[arg-type, misc]
            task = progress.add_task(f"scoring {name}", total=mine)
            for split, loader in loaders.items():
                for result in scorer.score_source(
                    source,
                    loader,
                    model=name,
                    split=split,
                    seed=settings.seed,
                    diversity=settings.diversity and name not in REFERENCES,
                    reward=reward,
                ):
                    collection.add(_with_stage_change(result, collection, before.get(name)))
                    progress.advance(task)
    collection = Collection.joined(
        ranks.gather(collection), order=lambda row: order[row.split, row.clip]
    )
    if ranks.rank != 0:
        return
    data = " ".join(f"{split}:{data_sha256(found.folder)}" for split, found in clips.items())
    origin = provenance_of(run, data, scorer.tracker) | {"passes": passes_of(weights)}
    publish(
        run,
        document_of(run, collection, origin),
        list(weights)[-1],
        Page(
            title=f"PisaBench: {model_label(run.name)}",
            videos=collection.videos,
            curves=learning_curves(weights),
            published=published_table_1() if settings.show_published else (),
            fps_hz=float(next(iter(clips.values()))[0].fps_hz),
        ),
    )


def _as_measure(reward: Reward, device: torch.device) -> Reward:
    """The reward on the device, its networks without gradient."""
    return reward.requires_grad_(False).eval().to(device)


def _with_stage_change(
    result: Scored | Failure, collection: Collection, before: str | None
) -> Scored | Failure:
    """The result with its difference to the video of the model before."""
    if before is None or isinstance(result, Failure):
        return result
    earlier = collection.frames(result.row.split, result.clip, before)
    if earlier is None:
        return result
    return result.with_columns(stage_change=video_difference(result.frames, earlier))


def scored_loaders(run: EvalRun) -> dict[str, DataLoader[Any]]:
    """A loader of clips for ``benchmark`` alone, or for each of ``evaluation.splits``.

    Real clips and those of a folder are read as the group ``real`` says, all others as ``data``.
    A split may also be a data set of the simulation, such as ``val_seen``.
    Clips that are missing are simulated or fetched.

    Raises:
        PisaError: an unknown split, or clips that cannot be had (what to fetch, and where to put
            it).
    """
    splits = scored_splits(run)
    limit = {"num_eval_clips": run.evaluation.num_clips}
    options = limit | {"batch_size": run.evaluation.batch_size}
    simulated = build_data(run.data, run.sets, **options)
    loaders: dict[str, DataLoader[Any]] = {}
    if run.own_clips or REAL in splits:
        real = run.real.build(root=str(run.data_dir), **limit)
        real.prepare_data()
        real.setup("test")
        loaders |= zip(
            splits if run.own_clips else real.splits, real.test_dataloader(), strict=True
        )
    if not run.own_clips and any(split in simulated.splits for split in splits):
        loaders |= zip(simulated.splits, _prepared(simulated), strict=True)
    for split in splits:
        if split not in loaders:
            named = {key: split for key in SET_KEYS[1:] if key in run.data.settings}
            loaders[split] = _prepared(build_data(run.data, run.sets, **options, **named))[0]
    return {split: loaders[split] for split in splits}


def scored_splits(run: EvalRun) -> list[str]:
    """``benchmark`` alone, or ``evaluation.splits``. Raises ``PisaError`` for an unknown split."""
    splits = list(run.evaluation.splits) if run.benchmark is None else [run.benchmark]
    known = dict.fromkeys((*build_data(run.data, run.sets).splits, REAL, *run.sets.names))
    unknown = [split for split in splits if split not in known]
    if unknown:
        raise PisaError(f"no test set named {unknown[0]!r}; valid: {', '.join(known)}")
    return splits


def _prepared(data: SimulatedDataModule) -> list[DataLoader[Any]]:
    """The test loaders, after clips that are missing are made."""
    for name in data.test_names:
        prepare_data_set(data.root, name, data.prepare)
    data.setup("test")
    return data.test_dataloader()


def learning_curves(weights: Mapping[str, Path | None]) -> dict[str, list[tuple[int, float]]]:
    """Learning curves that training logged beside each weights file, for ``write_report``."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, path in weights.items():
        logged = None if path is None else path.parent / "csv" / "metrics.csv"
        if logged is None or not logged.is_file():
            continue
        found = read_csv_logger(logged)
        if "train/reward" in found:  # ORO's loss is minus its reward
            found.pop("train/loss", None)
        scores = [k for k in found if k.startswith("pisabench/") and not k.endswith("n")]
        for key in [k for k in CURVES if k in found] + scores:
            if any(value for _, value in found[key]):  # nothing ever failed or was missed
                curves[f"{name} {key}"] = found[key]
    return curves


def _with_weights(
    model: VideoModel | None, run: EvalRun, weights: Path | None, device: torch.device
) -> VideoModel:
    """The model on the device; after the base model, only the denoiser's weights change."""
    if model is None or weights is None:
        model = build_model(run.model, weights)
        model.to(device)
    else:
        load_weights(model, weights)
    model.denoiser.eval()
    return model


def _share(loader: DataLoader[Any], ranks: RankInfo) -> DataLoader[Any]:
    """A loader of this process' clips, in order."""
    indices = range(ranks.rank, len(cast(ClipDataset, loader.dataset)), ranks.world_size)
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=indices,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
    )


def _generates(run: EvalRun) -> bool:
    return run.benchmark is not None and run.generation is not None
