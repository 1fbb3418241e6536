"""Binary object masks: conversion, object choice, centroid, bounding box, overlap.

Everything here is plain NumPy on the CPU and exact in float64; torch tensors are accepted wherever
masks come in. Masks are ``[T, H, W]`` or ``[T, N, H, W]``; points are ``(x, y)`` in pixels with the
origin at the top left (see ``pisa.types``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from pisa.errors import PisaError

Masks: TypeAlias = np.ndarray | Tensor
AnnotatedPoints: TypeAlias = Sequence[Mapping[str, Any]]


class MaskError(PisaError, ValueError):
    """Masks, frame rates or points that cannot be scored."""


def to_numpy(masks: Masks) -> Shaped[np.ndarray, "*shape"]:
    """The same values as a NumPy array on the CPU; no copy where none is needed."""
    if isinstance(masks, Tensor):
        return masks.detach().cpu().numpy()
    return np.asarray(masks)


def to_binary(masks: Masks, threshold: float = 0.5) -> Bool[np.ndarray, "*shape"]:
    """Foreground as bool: non-zero for bool and integers (1 or 255), ``> threshold`` for floats.

    Raises ``MaskError`` for NaN and for values that are not real numbers.
    """
    array = to_numpy(masks)
    if array.dtype == np.bool_:
        return array
    if np.issubdtype(array.dtype, np.integer):
        return array != 0
    if not np.issubdtype(array.dtype, np.floating):
        raise MaskError(f"masks must be bool, integer or float, not {array.dtype}")
    if np.isnan(array).any():
        raise MaskError("masks contain NaN")
    return array > threshold


def equal_to_one(masks: Masks) -> Bool[np.ndarray, "*shape"]:
    """Foreground as the paper's release tests it (``mask == 1``): 255 counts as background."""
    array = to_numpy(masks)
    return array if array.dtype == np.bool_ else array == 1


def select_object(masks: Masks, index: int = -1) -> Shaped[np.ndarray, "t h w"]:
    """One object's masks; ``[T, H, W]`` counts as ``[T, 1, H, W]``. The last object by default.

    Raises ``MaskError`` for another shape or an object that is not there.
    """
    array = to_numpy(masks)
    if array.ndim not in (3, 4):
        raise MaskError(f"masks must be [T, H, W] or [T, N, H, W], not of shape {array.shape}")
    stacked = array[:, None] if array.ndim == 3 else array
    num_objects = stacked.shape[1]
    if not -num_objects <= index < num_objects:
        raise MaskError(f"object {index} asked for, but there are masks of {num_objects} object(s)")
    return stacked[:, index]


def dropping_object_index(points: AnnotatedPoints | None) -> int:
    """Which object drops: the one with the smallest positive-point y, the first of equals.

    ``points`` is the list ``points`` of a clip's ``clip_info.json``, one entry per object with
    ``positive`` points ``(x, y)``. Without points (simulated clips) it is the last object: -1.

    Raises ``MaskError`` for points of no object.
    """
    if points is None:
        return -1
    if len(points) == 0:
        raise MaskError("the annotation holds no objects")
    return int(np.argmin([_highest_point_px(entry, i) for i, entry in enumerate(points)]))


def bounding_box(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice] | None:
    """Rows and columns that hold foreground, or None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    row_slice = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[row_slice].any(axis=0))
    return row_slice, slice(int(columns[0]), int(columns[-1]) + 1)


def centroid(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, " 2"]:
    """Mean ``(x, y)`` of the foreground pixel centres in px; NaN for an empty mask."""
    box = bounding_box(mask)
    if box is None:
        return np.full(2, np.nan)
    crop = mask[box]
    column_counts = np.count_nonzero(crop, axis=0)
    row_counts = np.count_nonzero(crop, axis=1)
    sum_x = int(column_counts @ np.arange(box[1].start, box[1].stop))
    sum_y = int(row_counts @ np.arange(box[0].start, box[0].stop))
    area = int(row_counts.sum())
    return np.array([sum_x / area, sum_y / area])


def centroids(masks: Bool[np.ndarray, "t h w"]) -> Float[np.ndarray, "t 2"]:
    """``centroid`` of every frame."""
    box = bounding_box(np.asarray(masks.any(axis=0)))
    if box is None:
        return np.full((len(masks), 2), np.nan)
    crop = masks[:, *box]
    column_counts = np.count_nonzero(crop, axis=1)
    row_counts = np.count_nonzero(crop, axis=2)
    sum_x = column_counts @ np.arange(box[1].start, box[1].stop)
    sum_y = row_counts @ np.arange(box[0].start, box[0].stop)
    areas = row_counts.sum(axis=1)
    return np.stack([sum_x, sum_y], axis=1) / np.where(areas, areas, np.nan)[:, None]


def iou(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union of two masks; 1 where both are empty (they agree)."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def _highest_point_px(entry: Any, index: int) -> float:
    """Smallest y of an object's positive points."""
    try:
        return min(float(y) for _, y in entry["positive"])
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise MaskError(
            f"annotated object {index} has no positive points; points must be "
            "[{'positive': [[x, y], ...]}, ...]"
        ) from error
