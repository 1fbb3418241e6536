"""How often each model's clips fail in which way (paper Appendix J), from the report's masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pisa.metrics.failures import LABELS, failure_labels
from pisa.reports.names import TRUTH, order_models


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
