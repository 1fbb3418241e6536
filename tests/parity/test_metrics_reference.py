"""The ``official`` protocol reproduces the release's numbers on its reference cases."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.metrics import evaluate_pair

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "metrics.json").read_text())["cases"]
RELATIVE = {"l2": 1e-9, "chamfer": 1e-6, "iou": 1e-9}


def _masks(case: dict[str, Any], side: str) -> np.ndarray:
    shape = case[f"{side}_shape"]
    with np.load(DATA / "metrics_masks.npz") as packed:
        bits = np.unpackbits(packed[f"{case['id']}_{side}"])[: int(np.prod(shape))]
    return (bits.reshape(shape) * np.uint8(case["fg_value"])).astype(case["dtype"])


def _evaluate(case: dict[str, Any]) -> dict[str, Any]:
    return _evaluate_case(case["id"])


@cache
def _evaluate_case(case_id: str) -> dict[str, Any]:
    case = next(c for c in CASES if c["id"] == case_id)
    return evaluate_pair(
        _masks(case, "gt"),
        _masks(case, "pd"),
        case["gt_fps"],
        case["pd_fps"],
        points=case["annotation_points"],
    )


def _reference(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float64)  # "nan" parses


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_official_reproduces_release(case: dict[str, Any]) -> None:
    if case["exception"]:
        with pytest.raises(PisaError, match=r"256x256 px.*64x64 px"):
            _evaluate(case)
        return
    result = _evaluate(case)
    assert result["num_frames_compared"] == len(case["gt_indices"])
    np.testing.assert_array_equal(result["per_frame"]["gt_index"], case["gt_indices"])
    for name, reference in (("l2", "l2"), ("chamfer", "chamfer_distance"), ("iou", "iou")):
        expected = _reference(case["result"][reference])
        np.testing.assert_allclose(result[name], expected, rtol=RELATIVE[name], atol=1e-12)
        expected = _reference(case["per_frame"][reference])
        actual = result["per_frame"][name]
        np.testing.assert_allclose(actual, expected, rtol=RELATIVE[name], atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_centroids_match_release(case: dict[str, Any]) -> None:
    if case["exception"] or not case["gt_indices"]:
        pytest.skip("the release raised or compared no frames: it has no centroids to match")
    per_frame = _evaluate(case)["per_frame"]
    for side, name in (("gt", "gt_centroid_px"), ("pd", "gen_centroid_px")):
        expected = _reference(case[f"{side}_centroids_xy"])[: len(per_frame[name])]
        np.testing.assert_allclose(per_frame[name], expected, rtol=1e-12)
