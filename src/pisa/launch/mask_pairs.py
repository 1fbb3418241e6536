"""``source=mask_pairs``: scores for masks that exist already, listed in the release's manifest."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from rich.progress import track

from pisa.bench.collect import SHOWN_FPS_HZ, SHOWN_FRAMES, SHOWN_PX, Collection
from pisa.bench.row import ScoreRow, check_rates, row_of
from pisa.bench.score import Failure
from pisa.data.mask_pairs import BrokenLine, MaskPair, load_pair, pairs_sha256, read_pairs
from pisa.errors import PisaError
from pisa.launch.results import document_of, provenance_of, publish
from pisa.launch.runs import EvalRun
from pisa.metrics import PairMasks, evaluate_many
from pisa.metrics.beyond import object_measures
from pisa.ops.masks import dropping_object_index, select_object, to_binary
from pisa.ranges import Count, WholeNumber
from pisa.reports.html import Page

_FEW = 200  # pairs are scored before a worker has imported what it needs (10 s)
_GT_COLOUR, _PD_COLOUR = (70, 130, 255), (255, 150, 40)


def score_mask_pairs(
    run: EvalRun,
    *,
    manifest: str | None,
    shown_pairs: WholeNumber = 60,
    num_workers: Count | None = None,
) -> None:
    """Score every line; a line that can't be scored is a failure, never a gap.

    ``shown_pairs``: how many of the first lines the report shows as pictures; ``num_workers``: None
    is one for each core, and this process alone for a few pairs.

    Raises ``PisaError`` without a manifest, or one that cannot be read.
    """
    if manifest is None:
        raise PisaError("source.manifest=PAIRS.jsonl is needed")
    pairs = read_pairs(Path(manifest))
    protocol, model, split = run.evaluation.protocol, run.name, run.benchmark or "pairs"
    collection = Collection()
    shown_lines = frozenset(pair.line for pair in pairs[:shown_pairs])
    results = evaluate_many(
        _load,
        pairs,
        protocol=protocol,
        num_workers=num_workers or (1 if len(pairs) < _FEW else _num_cores()),
        finish=partial(_finish, protocol, model, split, shown_lines),
    )
    progress = track(results, "scoring pairs", total=len(pairs), transient=True)
    for pair, result in zip(pairs, progress, strict=True):
        if isinstance(result, PisaError):
            collection.add(Failure(model, split, pair.clip, 0, f"line {pair.line}: {result}"))
            continue
        scored, picture = result
        collection.add_row(scored)
        if picture is not None:
            collection.show(split, pair.clip, model, picture)
    origin = provenance_of(run, f"pairs:{pairs_sha256(pairs)}", None)
    publish(
        run,
        document_of(run, collection, origin),
        model,
        Page(title=f"PisaBench: {model}", videos=collection.videos, fps_hz=SHOWN_FPS_HZ),
    )


def _num_cores() -> int:
    """Cores that this process may use, where the system reports them; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load(pair: MaskPair | BrokenLine) -> PairMasks:
    if isinstance(pair, BrokenLine):
        raise PisaError(pair.problem)
    check_rates(pair.gt_fps_hz, pair.pd_fps_hz)
    gt, pd, points = load_pair(pair)
    return PairMasks(gt, pd, pair.gt_fps_hz, pair.pd_fps_hz, points)


def _finish(
    protocol: str,
    model: str,
    split: str,
    shown_lines: frozenset[int],
    pair: MaskPair,
    masks: PairMasks,
    result: dict[str, Any],
) -> tuple[ScoreRow, dict[str, Any] | None]:
    """The row of a pair, and its pictures where they are to be shown."""
    which = dropping_object_index(masks.points)
    truth = to_binary(select_object(masks.gt_masks, which))
    scored = row_of(
        result, truth, masks.gt_fps_hz, protocol,
        model=model, split=split, clip=pair.clip, seed=0, groups={"line": pair.line},
        **object_measures(to_binary(select_object(masks.gen_masks, which))),
    )  # fmt: skip
    index = result["per_frame"]["gt_index"]
    if pair.line not in shown_lines or not len(index):
        return scored, None
    kept = slice(0, min(len(index), SHOWN_FRAMES))
    gen = to_binary(select_object(masks.gen_masks, which)[kept])
    return scored, _pictures(truth[index[kept]], gen)


def _pictures(gt: Bool[np.ndarray, "t h w"], pd: Bool[np.ndarray, "t h w"]) -> dict[str, Any]:
    """Both masks in colour on black, blue below and orange above, and the predicted mask."""
    step = -(-max(gt.shape[1:]) // SHOWN_PX)
    small_gt, small_pd = gt[:, ::step, ::step], pd[:, ::step, ::step]
    frames: UInt8[np.ndarray, "t h w 3"] = np.zeros((*small_gt.shape, 3), dtype=np.uint8)
    frames[small_gt] = _GT_COLOUR
    frames[small_pd] = _PD_COLOUR
    frames[small_gt & small_pd] = (255, 255, 255)
    return {"frames": frames, "mask": small_pd}
