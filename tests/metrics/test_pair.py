"""Properties and closed forms of ``evaluate_pair`` in all protocols."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pisa.errors import PisaError
from pisa.metrics import evaluate_pair

PROTOCOLS = ("official", "paper", "strict")
SIZE = 24
NONEMPTY = hnp.arrays(bool, (3, 10, 10)).filter(lambda m: m.any(axis=(1, 2)).all())


def _square(x: int, y: int, side: int = 5, *, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    masks = np.zeros((4, height, width), dtype=bool)
    masks[:, y : y + side, x : x + side] = True
    return masks


def _triple(result: dict) -> tuple[float, float, float]:
    return result["l2"], result["chamfer"], result["iou"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=15, deadline=None)
@given(masks=NONEMPTY)
def test_identity_is_perfect(protocol: str, masks: np.ndarray) -> None:
    result = evaluate_pair(masks, masks, 16, 16, protocol=protocol)
    assert _triple(result) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("protocol", ["official", "paper"])
@settings(max_examples=15, deadline=None)
@given(a=NONEMPTY, b=NONEMPTY)
def test_swapping_the_clips_changes_nothing(protocol: str, a: np.ndarray, b: np.ndarray) -> None:
    forward = _triple(evaluate_pair(a, b, 16, 16, protocol=protocol))
    backward = _triple(evaluate_pair(b, a, 16, 16, protocol=protocol))
    assert forward == pytest.approx(backward, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=15, deadline=None)
@given(a=NONEMPTY, b=NONEMPTY, dx=st.integers(0, 6), dy=st.integers(0, 6))
def test_shifting_both_changes_nothing(
    protocol: str, a: np.ndarray, b: np.ndarray, dx: int, dy: int
) -> None:
    def scores(x: int, y: int) -> tuple[float, float, float]:
        pad = ((0, 0), (y, 6 - y), (x, 6 - x))
        return _triple(evaluate_pair(np.pad(a, pad), np.pad(b, pad), 16, 16, protocol=protocol))

    assert scores(dx, dy) == pytest.approx(scores(0, 0), rel=1e-9, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(a=NONEMPTY, b=hnp.arrays(bool, (3, 10, 10)))
def test_strict_is_never_kinder_than_paper(a: np.ndarray, b: np.ndarray) -> None:
    strict = evaluate_pair(a, b, 16, 16, protocol="strict")
    paper = evaluate_pair(a, b, 16, 16, protocol="paper")
    assert strict["iou"] <= paper["iou"] + 1e-12
    for name in ("l2", "chamfer"):
        assert 0 <= strict[name] <= (1 if name == "l2" else 2)
        assert math.isnan(paper[name]) or strict[name] >= paper[name] - 1e-12


@pytest.mark.parametrize(
    ("protocol", "offset_px"), [("official", 3.5), ("paper", 5), ("strict", 5)]
)
def test_l2_of_a_3_4_offset(protocol: str, offset_px: float) -> None:
    l2 = evaluate_pair(_square(5, 5), _square(8, 9), 16, 16, protocol=protocol)["l2"]
    assert l2 == pytest.approx(offset_px / (math.sqrt(2) * SIZE), rel=1e-12)


@pytest.mark.parametrize(("protocol", "norm_px"), [("official", 40 * 2**0.5), ("paper", 50)])
def test_normalisation_of_non_square_frames(protocol: str, norm_px: float) -> None:
    first, second = _square(1, 1, 1, height=40, width=30), _square(1, 8, 1, height=40, width=30)
    chamfer = evaluate_pair(first, second, 16, 16, protocol=protocol)["chamfer"]
    assert chamfer == pytest.approx(14 / norm_px, rel=1e-12)


@pytest.mark.parametrize(
    ("protocol", "expected"), [("official", [0, 1, 3, 4, 6, 7]), ("paper", [0, 2, 3, 5, 6, 8])]
)
def test_frame_alignment(protocol: str, expected: list[int]) -> None:
    gt, gen = np.ones((9, 4, 4), dtype=bool), np.ones((6, 4, 4), dtype=bool)
    result = evaluate_pair(gt, gen, 24, 16, protocol=protocol)
    assert result["per_frame"]["gt_index"].tolist() == expected
    result = evaluate_pair(gt[:5], gen, 24, 16, protocol=protocol)
    counts = [result[f"num_frames_{name}"] for name in ("gt", "gen", "compared")]
    assert counts == [5, 6, sum(j < 5 for j in expected)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_dropping_object_is_scored(protocol: str) -> None:
    objects = np.stack([_square(0, 12), _square(9, 2)], axis=1)  # [T, 2, H, W]
    moved = np.stack([_square(0, 12), _square(9, 8)], axis=1)
    points = [{"positive": [[9, 30]]}, {"positive": [[2, 40]]}]
    assert evaluate_pair(objects, moved, 16, 16, protocol=protocol)["l2"] > 0
    assert evaluate_pair(objects, moved, 16, 16, protocol=protocol, points=points)["l2"] == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_torch_and_numpy_agree(protocol: str) -> None:
    gt, gen = _square(4, 4), _square(6, 5)
    expected = _triple(evaluate_pair(gt, gen, 16, 16, protocol=protocol))
    tensors = torch.from_numpy(gt), torch.from_numpy(gen).float()
    assert _triple(evaluate_pair(*tensors, 16, 16, protocol=protocol)) == expected


def test_255_is_foreground_except_in_official() -> None:
    gt, gen = (_square(4, 4) * np.uint8(255), _square(6, 5) * np.uint8(255))
    assert math.isnan(evaluate_pair(gt, gen, 16, 16)["l2"])
    assert evaluate_pair(gt, gen, 16, 16, protocol="paper")["l2"] > 0


def test_a_vanished_object() -> None:
    gt, gen = _square(4, 4), _square(4, 4)
    gen[2:] = False
    assert _triple(evaluate_pair(gt, gen, 16, 16, protocol="official")) == (0.0, 0.0, 0.5)
    assert _triple(evaluate_pair(gt, gen, 16, 16, protocol="paper")) == (0.0, 0.0, 0.5)
    strict = evaluate_pair(gt, gen, 16, 16, protocol="strict")
    assert _triple(strict) == (0.5, 1.0, 0.5)
    assert (strict["miss_rate"], strict["spurious_rate"]) == (0.5, 0.0)
    backward = evaluate_pair(gen, gt, 16, 16, protocol="strict")
    assert _triple(backward) == (0.5, 1.0, 0.5)
    assert (backward["miss_rate"], backward["spurious_rate"]) == (0.0, 1.0)


def test_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(PisaError, match="official, paper, strict"):
        evaluate_pair(_square(1, 1), _square(1, 1), 16, 16, protocol="chamfer")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fps_hz", [0, -1, float("nan"), float("inf")])
def test_bad_frame_rates_are_refused(protocol: str, fps_hz: float) -> None:
    with pytest.raises(PisaError, match="gen_fps"):
        evaluate_pair(_square(1, 1), _square(1, 1), 16, fps_hz, protocol=protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sizes_must_agree(protocol: str) -> None:
    with pytest.raises(PisaError, match=r"24x24 px.*24x25 px"):
        evaluate_pair(_square(1, 1), _square(1, 1, width=25), 16, 16, protocol=protocol)


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_nothing_to_compare_is_refused(protocol: str) -> None:
    with pytest.raises(PisaError, match=r"no.* compare"):
        evaluate_pair(_square(1, 1)[:0], _square(1, 1), 16, 16, protocol=protocol)
