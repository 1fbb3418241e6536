"""Paired differences, per-group means and kinds of failure for metrics.json and its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pisa.bench.row import METRICS
from pisa.data.clip_info import NOT_RECORDED
from pisa.metrics.failures import LABELS, failure_labels
from pisa.reports.metrics_json import paired_summary, summarise
from pisa.reports.names import REFERENCES, TRUTH, order_models

GROUPS = ("scene", "num_objects")  # keys a row may carry
_COMPARED_WITH = ("psft", "base")


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
