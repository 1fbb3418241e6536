"""The fast Chamfer distance equals the plain KD-tree formulation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pisa.metrics.chamfer import chamfer_px


@pytest.fixture(autouse=True, scope="module")
def _keep_denormals() -> Iterator[None]:
    """SciPy's KD-tree splits just above 0; with such numbers flushed to 0 it recurses for ever."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(True)  # as in conftest


def _by_kd_trees(first: np.ndarray, second: np.ndarray) -> float:
    p, q = np.argwhere(first), np.argwhere(second)
    return float(KDTree(q).query(p)[0].mean() + KDTree(p).query(q)[0].mean())


def _rectangles(size: int, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    for y, x, height, width in boxes:
        mask[y : y + height, x : x + width] = True
    return mask


BOXES = st.lists(st.tuples(*[st.integers(0, 29)] * 2, *[st.integers(1, 12)] * 2), min_size=1)


@settings(max_examples=80, deadline=None)
@given(BOXES, BOXES)
def test_equals_kd_trees_on_rectangles(first: list, second: list) -> None:
    a, b = _rectangles(32, first), _rectangles(32, second)
    assert chamfer_px(a, b) == pytest.approx(_by_kd_trees(a, b), rel=1e-9, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 14), st.integers(1, 14))
def test_equals_kd_trees_on_noise(data: st.DataObject, height: int, width: int) -> None:
    a, b = (data.draw(hnp.arrays(bool, (height, width))) for _ in range(2))
    a[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    b[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    assert chamfer_px(a, b) == pytest.approx(_by_kd_trees(a, b), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 4), (40, 0), (0, 40), (33, 44)])
def test_equals_kd_trees_on_discs(dx: int, dy: int) -> None:
    y, x = np.mgrid[:120, :110]
    a = (x - 30) ** 2 + (y - 30) ** 2 <= 25**2
    b = (x - 30 - dx) ** 2 + (y - 30 - dy) ** 2 <= 25**2
    assert chamfer_px(a, b) == pytest.approx(_by_kd_trees(a, b), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [150, 400])  # squared distances fit 16 bits, and don't
@pytest.mark.parametrize("gap", [0, 60])
def test_equals_a_distance_transform_on_large_masks(size: int, gap: int) -> None:
    y, x = np.mgrid[:size, :size]
    a = (x - 40) ** 2 + (y - 30 - gap) ** 2 <= 29**2
    b = ((x - size + 40) ** 2 + (y - 50) ** 2 <= 35**2) | ((y == size - 1) & (x > gap))
    far = distance_transform_edt(~b)[a].mean() + distance_transform_edt(~a)[b].mean()
    assert chamfer_px(a, b) == pytest.approx(far, rel=1e-12)


def test_two_pixels_are_twice_their_distance_apart() -> None:
    a, b = np.zeros((2, 300, 400), dtype=bool)
    a[0, 0] = b[299, 399] = True
    assert chamfer_px(a, b) == pytest.approx(2 * np.hypot(299, 399))


def test_empty_mask_has_no_distance() -> None:
    a = np.ones((3, 3), dtype=bool)
    assert np.isnan(chamfer_px(a, ~a))
    assert np.isnan(chamfer_px(~a, a))
