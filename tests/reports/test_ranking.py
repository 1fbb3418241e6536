"""Ranks on constructed scores whose right order is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pisa.reports.comparison import against_best, compare_all
from pisa.reports.metrics_json import build_metrics
from tests.reports.saved_results import PROVENANCE


def document(seeds: int = 1, **errors: float) -> dict[str, Any]:
    """Models whose L2 is the given error plus noise of its own; iou its complement."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": model, "split": "real", "clip": f"{i}", "seed": 0, "l2": value, "iou": 1 - value}
        | ({"run_seed": run} if seeds > 1 else {})
        for model, error in ({"truth": 0.0, "frozen": 0.9} | errors).items()
        for run in range(seeds)
        for i, value in enumerate(error + 0.05 * rng.normal(size=40))
    ]
    return build_metrics(rows, [], protocol="official", provenance=PROVENANCE)


def test_close_models_share_ranks_and_a_distant_one_does_not() -> None:
    l2, iou = compare_all(document(far=0.6, near=0.2, close=0.201))
    assert l2.models[-1] == "far" and not l2.apart("near", "close")
    assert l2.apart("near", "far") and l2.apart("close", "far")
    first, second = l2.models[:2]
    assert l2.line() == (
        f"Real, L2: rank {first} 1 to 2, {second} 1 to 2, far 3; "
        f"cannot be told apart: {first} and {second}."
    )
    assert iou.metric == "iou" and iou.models[-1] == "far"  # higher is better there


def test_models_that_differ_have_one_rank_each() -> None:
    (l2, _) = compare_all(document(seeds=2, a=0.1, b=0.3, c=0.5))
    assert l2.line() == "Real, L2: rank a 1, b 2, c 3; all differ."


def test_the_pairs_with_the_best_carry_the_corrected_interval() -> None:
    metrics = document(a=0.1, b=0.3, c=0.5)
    compared = compare_all(metrics)
    pairs = against_best(metrics, compared)
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("b", "a"), ("c", "a")]
    interval = compared[0].differences["b", "a"]
    cell = pairs[0]["cells"]["l2"]
    assert cell["ci95"] == [interval.lo, interval.hi] and cell["n"] == 40
    assert cell["mean"] == pytest.approx(0.2, abs=0.03)


def test_one_model_has_no_ranks() -> None:
    assert compare_all(document(alone=0.1)) == []
