"""Scores in and out of the training distribution, by depth and height (paper Table 2)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pisa.bench.collect import Collection
from pisa.bench.references import VideoSource
from pisa.bench.row import METRICS as ALL_METRICS
from pisa.bench.score import Scorer
from pisa.section5.study import StudyClip
from pisa.types import collate

METRICS = ALL_METRICS[:4]  # the columns of Table 2: l2, chamfer, iou, time_error
LABELS = ("id", "ood")
DEPTH_EDGES_M = (1.0, 2.0, 3.0, 4.0, 5.0)
HEIGHT_EDGES_M = (0.5, 1.0, 1.5, 2.0, 2.5)

Row = Mapping[str, Any]


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
    for label in LABELS:
        chosen = [item for item in items if label_of(item.study) == label]
        studies = {item.clip.name: item.study for item in chosen}
        groups = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        batches = [collate([item.clip for item in group]) for group in groups]
        for result in scorer.score_source(source, batches, model=model, split=label, seed=seed):
            study = studies[result.clip]
            collection.add(result, depth_m=study["depth_m"], height_m=study["height_m"])
            yield result.clip


def label_of(study: Mapping[str, Any]) -> str:
    """``id`` where depth and height both lie in the training ranges, else ``ood``."""
    return "id" if study["in_distribution"] else "ood"


def table(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The columns of Table 2, of one model's ``summary`` in metrics.json."""
    return {
        label: {metric: cells[metric] for metric in METRICS if metric in cells}
        for label, cells in splits.items()
    }


def grid(rows: Sequence[Row]) -> dict[str, Any]:
    """Means over cells of depth (first axis) x height, None without a finite value; for a heat map.

    Rows have ``depth_m`` and ``height_m``; those outside the edges are only counted.
    """
    cells: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        key = _bin(row["depth_m"], DEPTH_EDGES_M), _bin(row["height_m"], HEIGHT_EDGES_M)
        cells[key].append(row)

    def over_cells(value: Callable[[list[Row]], Any]) -> list[list[Any]]:
        heights = range(len(HEIGHT_EDGES_M) - 1)
        return [[value(cells[i, j]) for j in heights] for i in range(len(DEPTH_EDGES_M) - 1)]

    counts = over_cells(len)
    return {
        "depth_edges_m": list(DEPTH_EDGES_M),
        "height_edges_m": list(HEIGHT_EDGES_M),
        "n": counts,
        "outside": len(rows) - sum(map(sum, counts)),
        "mean": {metric: over_cells(partial(_mean, metric)) for metric in METRICS},
    }


def _bin(value: float, edges: Sequence[float]) -> int:
    """Index of the interval, the last one with both ends; -1 or the number of them outside."""
    return len(edges) - 2 if value == edges[-1] else bisect_right(edges, value) - 1


def _mean(metric: str, rows: list[Row]) -> float | None:
    values = [row[metric] for row in rows if row[metric] is not None and np.isfinite(row[metric])]
    return float(np.mean(values)) if values else None
