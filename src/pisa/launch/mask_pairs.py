"""``source=mask_pairs``: scores for masks that exist already, listed in the release's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from pisa.data.mask_pairs import BrokenLine, MaskPair, load_pair, pairs_sha256, read_pairs
from pisa.launch.outcome import provenance_of, publish, row_of
from pisa.metrics import evaluate_pair
from pisa.metrics.pair import parse_protocol
from pisa.ops.masks import dropping_object_index, select_object, to_binary
from pisa.reports.metrics_json import build_metrics
from pisa.types import PisaError

_SHOWN_PX, _SHOWN_FRAMES = 128, 64
_GT_COLOUR, _PD_COLOUR = (70, 130, 255), (255, 150, 40)


def score_mask_pairs(
    cfg: DictConfig,
    folder: Path,
    *,
    manifest: str | None,
    shown_pairs: int = 60,
    row: str = "mask_pairs",
) -> None:
    """Score every line; a line that can't be scored is a failure, never a gap.

    ``shown_pairs``: how many pairs the report shows as pictures; ``row``: what configs/eval.yaml
    takes for ``name``.
    """
    if manifest is None:
        raise PisaError("source.manifest=PAIRS.jsonl is needed")
    protocol = parse_protocol(cfg.evaluation.protocol).value
    pairs = read_pairs(Path(manifest))
    model, split = str(cfg.name), str(cfg.benchmark or "pairs")
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    videos: list[dict[str, Any]] = []
    for pair in track(pairs, "scoring pairs", transient=True):
        key = {"model": model, "split": split, "clip": pair.clip, "seed": 0}
        try:
            scores, video = _score(pair, protocol, shown=len(videos) < shown_pairs)
        except PisaError as error:
            failures.append({**key, "line": pair.line, "reason": str(error)})
            continue
        rows.append({**key, "line": pair.line, **scores})
        if video is not None:
            videos.append({"clip": pair.clip, "split": split, "models": {model: video}})
    data = f"pairs:{pairs_sha256(pairs)}"
    metrics = build_metrics(rows, failures, protocol=protocol, provenance=provenance_of(cfg, data))
    publish(
        metrics,
        folder,
        model=model,
        allow_missing=bool(cfg.allow_missing),
        title=f"PisaBench: {model}",
        videos=videos,
        config_text=OmegaConf.to_yaml(cfg),
        fps_hz=16.0,
    )


def _score(
    pair: MaskPair | BrokenLine, protocol: str, shown: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Metrics of a pair, and its pictures where they are to be shown."""
    if isinstance(pair, BrokenLine):
        raise PisaError(pair.problem)
    gt, pd, points = load_pair(pair)
    result = evaluate_pair(gt, pd, pair.gt_fps_hz, pair.pd_fps_hz, protocol=protocol, points=points)
    scores = row_of(result)
    index = result["per_frame"]["gt_index"]
    if not shown or not len(index):
        return scores, None
    which = dropping_object_index(points)
    kept = slice(0, min(len(index), _SHOWN_FRAMES))
    gt_masks = to_binary(select_object(gt, which))[index[kept]]
    return scores, _pictures(gt_masks, to_binary(select_object(pd, which))[kept])


def _pictures(gt: Bool[np.ndarray, "t h w"], pd: Bool[np.ndarray, "t h w"]) -> dict[str, Any]:
    """Both masks in colour on black, blue below and orange above, and the predicted mask."""
    step = -(-max(gt.shape[1:]) // _SHOWN_PX)
    small_gt, small_pd = gt[:, ::step, ::step], pd[:, ::step, ::step]
    frames: UInt8[np.ndarray, "t h w 3"] = np.zeros((*small_gt.shape, 3), dtype=np.uint8)
    frames[small_gt] = _GT_COLOUR
    frames[small_pd] = _PD_COLOUR
    frames[small_gt & small_pd] = (255, 255, 255)
    return {"frames": frames, "mask": small_pd}
