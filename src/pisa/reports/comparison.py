"""Models compared: paired differences, groups of clips, kinds of failure, and ranks.

For ranks every pair of models of a split and metric gets an interval of its difference, and all of
these hold together with a probability of 95 % (``simultaneous_differences``). So the best model may
be chosen after looking, which intervals of single pairs do not allow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pisa.bench.row import METRICS
from pisa.data.clip_info import NOT_RECORDED
from pisa.metrics.failures import LABELS, failure_labels
from pisa.metrics.statistics import Interval, simultaneous_differences
from pisa.reports.metrics_json import clip_values, paired_summary, rows_by_model, summarise
from pisa.reports.names import (
    REFERENCES,
    TRUTH,
    direction,
    metric_label,
    model_label,
    order_models,
    order_splits,
    split_label,
)

GROUPS = ("scene", "num_objects")  # keys a row may carry
_COMPARED_WITH = ("psft", "base")
CORRECTION = (
    "Intervals of differences hold for all pairs of models of a split and metric together (95 %, "
    "max-t bootstrap over clips and seeds): they are corrected for the number of models."
)


def paired_list(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every model against PSFT and base on the clips both have: ``[{"a", "b", "split", "cells"}]``.

    ``cells[metric]`` is ``{"mean", "ci95", "n", "a_better"}`` of ``a - b``. Without either of the
    two references, every later model is compared with the first.
    """
    models = [m for m in order_models(metrics["summary"]) if m not in REFERENCES]
    references = [m for m in _COMPARED_WITH if m in models] or models[:1]
    return [
        {"a": a, "b": b, "split": split, "cells": cells}
        for a in models
        for b in references
        if models.index(a) > models.index(b)
        for split, cells in paired_summary(metrics, a, b).items()
    ]


def breakdown(per_clip: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """``{group: {value: summary}}`` for the groups that some row carries; values are text.

    Rows without a value that others have count as "not recorded": the counts of a group always
    sum to all clips.
    """
    result: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        values = {row.get(group) for row in per_clip}
        if values <= {None}:
            continue
        for value in sorted(values, key=lambda v: (v is None, isinstance(v, str), v)):
            rows = [row for row in per_clip if row.get(group) == value]
            name = NOT_RECORDED if value is None else str(value)
            result.setdefault(group, {})[name] = summarise(rows, METRICS, seed=seed)
    return result


def with_details(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the extra keys ``paired`` and ``breakdown``."""
    seed = int(metrics["provenance"].get("seed") or 0)
    return {
        **metrics,
        "paired": paired_list(metrics),
        "breakdown": breakdown(metrics["per_clip"], seed=seed),
    }


@dataclass(frozen=True)
class KindTable:
    """``rows``: (model, clips looked at, clips by kind); a clip may fail in several ways."""

    kinds: tuple[str, ...]
    rows: tuple[tuple[str, int, Mapping[str, int]], ...]


def count_kinds(videos: Sequence[Mapping[str, Any]], fps_hz: float) -> KindTable | None:
    """Counts over the clips that have the masks of a model and of the ground truth.

    ``videos``: see ``panels.build_panels``. None where no clip has both. Kinds that no clip shows
    are left out.
    """
    looked: dict[str, int] = defaultdict(int)
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in videos:
        truth = item["models"].get(TRUTH, {}).get("mask")
        if truth is None or not truth.any():
            continue
        for model, shown in item["models"].items():
            mask = shown.get("mask")
            if model == TRUTH or mask is None or mask.shape[1:] != truth.shape[1:]:
                continue
            looked[model] += 1
            for label in failure_labels(mask, truth, fps_hz):
                found[model][label] += 1
    if not looked:
        return None
    kinds = tuple(label for label in LABELS if any(found[m].get(label) for m in looked))
    rows = tuple((model, looked[model], dict(found[model])) for model in order_models(looked))
    return KindTable(kinds, rows)


@dataclass(frozen=True)
class Comparison:
    """All models of one split in one metric: intervals that hold for all pairs together."""

    split: str
    metric: str
    models: tuple[str, ...]  # the best first
    differences: Mapping[tuple[str, str], Interval]  # of a - b, both ways round

    def apart(self, a: str, b: str) -> bool:
        """Whether the two can be told apart: the interval of their difference excludes zero."""
        interval = self.differences[a, b]
        return interval.n > 1 and not interval.lo <= 0 <= interval.hi

    def line(self) -> str:
        """Ranks, and the neighbours that cannot be told apart."""
        ranks = []
        for k, model in enumerate(self.models):
            better = sum(self.apart(model, other) for other in self.models[:k])
            worse = sum(self.apart(model, other) for other in self.models[k + 1 :])
            first, last = 1 + better, len(self.models) - worse
            rank = f"{first}" if first == last else f"{first} to {last}"
            ranks.append(f"{model_label(model)} {rank}")
        alike = [
            f"{model_label(a)} and {model_label(b)}"
            for a, b in pairwise(self.models)
            if not self.apart(a, b)
        ]
        end = f"; cannot be told apart: {', '.join(alike)}" if alike else "; all differ"
        where = f"{split_label(self.split)}, {metric_label(self.metric)}"
        return f"{where}: rank {', '.join(ranks)}{end}."


def compare_all(metrics: Mapping[str, Any], names: Sequence[str] = METRICS) -> list[Comparison]:
    """Every split and metric of ``names`` in which two models or more are scored.

    The intervals are corrected for the number of models (``simultaneous_differences``).
    """
    by_model = rows_by_model(metrics)
    found = []
    for split in order_splits(row["split"] for row in metrics["per_clip"]):
        rows = {
            model: [r for r in own if r["split"] == split and not r.get("partial")]
            for model, own in by_model.items()
            if model not in REFERENCES
        }
        clips = list(dict.fromkeys(row["clip"] for own in rows.values() for row in own))
        for metric in names:
            scored = {
                model: clip_values(own, metric, clips)
                for model, own in rows.items()
                if any(row.get(metric) is not None for row in own)
            }
            if len(scored) > 1:
                found.append(_compared(scored, split, metric, metrics))
    return found


def _compared(
    scored: Mapping[str, Any], split: str, metric: str, metrics: Mapping[str, Any]
) -> Comparison:
    summary = metrics["summary"]
    ranking = sorted(scored, key=lambda m: -direction(metric) * summary[m][split][metric]["mean"])
    seed = int(metrics["provenance"].get("seed") or 0)
    pairs = simultaneous_differences([scored[model] for model in ranking], seed)
    differences = {}
    for (a, b), i in pairs.items():
        differences[ranking[a], ranking[b]] = i
        differences[ranking[b], ranking[a]] = Interval(-i.mean, -i.hi, -i.lo, i.n)
    return Comparison(split, metric, tuple(ranking), differences)


def against_best(
    metrics: Mapping[str, Any], compared: Sequence[Comparison]
) -> list[dict[str, Any]]:
    """Every model against the one with the best L2 of each split, as ``paired_list``.

    The intervals are those of ``compared``: corrected for the number of models.
    """
    pairs = []
    for split in dict.fromkeys(c.split for c in compared):
        by_metric = {c.metric: c for c in compared if c.split == split}
        best, *others = by_metric.get("l2", next(iter(by_metric.values()))).models
        for model in others:
            cells = paired_summary(metrics, model, best).get(split, {})
            if cells:
                cells = corrected(cells, by_metric, model, best)
                pairs.append({"a": model, "b": best, "split": split, "cells": cells})
    return pairs


def corrected(
    cells: Mapping[str, Any], by_metric: Mapping[str, Comparison], a: str, b: str
) -> dict[str, Any]:
    """Cells of ``paired_summary`` with the intervals of ``a - b`` that hold for all pairs."""
    found = {metric: by_metric[metric].differences[a, b] for metric in cells}
    return {
        metric: cell | {"mean": found[metric].mean, "ci95": [found[metric].lo, found[metric].hi]}
        for metric, cell in cells.items()
    }
