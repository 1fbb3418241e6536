"""Mask operations against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pisa.errors import PisaError
from pisa.ops import masks as ops


def test_centroid_of_a_rectangle_is_its_middle() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:9, 10:21] = True
    np.testing.assert_array_equal(ops.centroid(mask), [15.0, 6.0])  # (x, y)


def test_centroid_of_nothing_is_nan() -> None:
    assert np.isnan(ops.centroid(np.zeros((4, 4), dtype=bool))).all()
    assert ops.centroids(np.zeros((0, 4, 4), dtype=bool)).shape == (0, 2)
    assert np.isnan(ops.centroids(np.zeros((2, 4, 4), dtype=bool))).all()


def test_centroids_are_the_centroid_of_each_frame() -> None:
    masks = np.random.default_rng(0).random((6, 9, 11)) > 0.7
    masks[:, :2] = masks[3] = False
    np.testing.assert_array_equal(ops.centroids(masks), [ops.centroid(mask) for mask in masks])


def test_bounding_box_is_tight() -> None:
    mask = np.zeros((8, 9), dtype=bool)
    mask[2, 7] = mask[5, 3] = True
    assert ops.bounding_box(mask) == (slice(2, 6), slice(3, 8))
    assert ops.bounding_box(~mask & mask) is None


@pytest.mark.parametrize("foreground", [True, np.uint8(1), np.uint8(255), np.float32(0.7)])
def test_to_binary_keeps_foreground(foreground: np.generic) -> None:
    array = np.array([[0, foreground]], dtype=np.asarray(foreground).dtype)
    np.testing.assert_array_equal(ops.to_binary(array), [[False, True]])
    np.testing.assert_array_equal(ops.to_binary(torch.from_numpy(array)), [[False, True]])


def test_to_binary_refuses_nan_and_complex() -> None:
    with pytest.raises(PisaError, match="NaN"):
        ops.to_binary(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="complex"):
        ops.to_binary(np.array([[1j]]))


def test_equal_to_one_takes_255_for_background() -> None:
    np.testing.assert_array_equal(ops.equal_to_one(np.array([0, 1, 255])), [False, True, False])


def test_select_object() -> None:
    stacked = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(ops.select_object(stacked), stacked[:, 2])
    np.testing.assert_array_equal(ops.select_object(stacked, 1), stacked[:, 1])
    np.testing.assert_array_equal(ops.select_object(stacked[:, 0]), stacked[:, 0])
    with pytest.raises(PisaError, match="object 3"):
        ops.select_object(stacked, 3)
    with pytest.raises(PisaError, match="shape"):
        ops.select_object(stacked[0, 0])


def test_dropping_object_has_the_highest_point() -> None:
    positive = [[[0, 9], [0, 4]], [[9, 3.5]], [[1, 3.5]]]
    points = [{"positive": xy} for xy in positive]
    assert ops.dropping_object_index(points) == 1
    assert ops.dropping_object_index(None) == -1


@pytest.mark.parametrize("points", [[], [{"positive": []}], [{"negative": [[1, 2]]}]])
def test_points_without_a_positive_one_are_refused(points: list) -> None:
    with pytest.raises(PisaError):
        ops.dropping_object_index(points)


def test_iou_of_shifted_squares() -> None:
    first, second = np.zeros((2, 10, 10), dtype=bool)
    first[0:4, 0:4] = second[0:4, 2:6] = True
    assert ops.iou(first, second) == 8 / 24
    assert ops.iou(first & False, second & False) == 1.0
    assert ops.iou(first, second & False) == 0.0
