"""Chamfer distance between two masks by exact distance transforms.

The plain way builds a KD-tree of each mask's pixels and queries it with the other's. On a pixel
grid the same nearest distances come from a separable squared distance transform (Felzenszwalb and
Huttenlocher, "Distance Transforms of Sampled Functions", 2012), here with integer arithmetic, so
that it is exact, and restricted in three ways that change no result:

* only the two bounding boxes are looked at;
* pixels inside both masks are at distance zero;
* the search along the second axis stops once no query pixel can still improve.

``scipy.ndimage.distance_transform_edt`` on the joint bounding box gives the same numbers. Which of
the two is faster depends on how far the masks are apart; ``benchmarks/metrics_official.py`` times
both beside the KD-trees.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from pisa.ops.masks import bounding_box

_FAR = np.int32(1 << 29)  # above every squared distance in px; _FAR + k^2 stays within int32
_MAX_SIDE_PX = 16384  # 2 * side^2 must stay below _FAR + 1
_BEYOND = np.int32(2 * _MAX_SIDE_PX)
_STEPS_PER_CHECK = 8


def chamfer_px(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    """Sum of both directed mean distances in px (paper Appendix B); NaN if a mask is empty."""
    first_box, second_box = bounding_box(first), bounding_box(second)
    if first_box is None or second_box is None:
        return float("nan")
    if max(*first.shape, *second.shape) > _MAX_SIDE_PX:
        raise ValueError(f"masks larger than {_MAX_SIDE_PX} px a side are not supported")
    region = tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first_box, second_box, strict=True)
    )
    if _moves_mostly_down(first_box, second_box):
        first, second = first.T, second.T
        region = region[::-1]
    first, second = np.ascontiguousarray(first[region]), np.ascontiguousarray(second[region])
    forward = _distance_sum_px(first, second) / np.count_nonzero(first)
    return forward + _distance_sum_px(second, first) / np.count_nonzero(second)


def _moves_mostly_down(first: tuple[slice, slice], second: tuple[slice, slice]) -> bool:
    """Whether the boxes are further apart in y than in x: the search then runs along x."""
    apart = [abs(a.start + a.stop - b.start - b.stop) for a, b in zip(first, second, strict=True)]
    return apart[0] > apart[1]


def _distance_sum_px(query: Bool[np.ndarray, "h w"], target: Bool[np.ndarray, "h w"]) -> float:
    """Sum over the query pixels of the distance to the nearest target pixel."""
    outside = query & ~target
    box = bounding_box(outside)
    if box is None:
        return 0.0
    rows, columns = box
    along_row = _squared_row_distance(target, columns)
    first, last = _useful_rows(along_row, rows)
    squared = np.where(outside[box], np.int32(2 * _FAR - 1), np.int32(0))
    if first >= rows.stop or last <= rows.start:
        _minimum_over_targets(squared, along_row[first:last], first - rows.start)
    else:
        _minimum_over_shifts(squared, along_row[first:last], rows.start - first)
    return float(np.sqrt(squared, dtype=np.float64).sum())


def _squared_row_distance(
    target: Bool[np.ndarray, "h w"], columns: slice
) -> Int[np.ndarray, "h c"]:
    """Squared distance to the nearest target pixel of the same row; ``_FAR`` in empty rows."""
    filled = target.any(axis=1)
    runs = np.count_nonzero(target[:, 0]) + np.count_nonzero(target[:, 1:] > target[:, :-1])
    if runs == np.count_nonzero(filled):  # one run in each row that has any
        x = np.arange(columns.start, columns.stop, dtype=np.int32)
        left = target.argmax(axis=1).astype(np.int32)[:, None]
        right = (target.shape[1] - 1 - target[:, ::-1].argmax(axis=1)).astype(np.int32)[:, None]
        distance = np.maximum(left - x, x - right)
        np.maximum(distance, 0, out=distance)
    else:
        distance = _row_distance(target)[:, columns]
    squared = distance * distance
    squared[~filled] = _FAR
    return squared


def _row_distance(target: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Distance to the nearest target pixel of the same row, any number of runs per row."""
    x = np.arange(target.shape[1], dtype=np.int32)
    left = np.maximum.accumulate(np.where(target, x, -_BEYOND), axis=1)
    right = np.minimum.accumulate(np.where(target, x, _BEYOND)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(x - left, right - x)


def _useful_rows(along_row: Int[np.ndarray, "h c"], queries: slice) -> tuple[int, int]:
    """Target rows outside the queries' rows that some nearer row doesn't beat in every column."""
    first, last = 0, along_row.shape[0]
    if queries.start > 0:
        first = queries.start - 1 - int(along_row[queries.start - 1 :: -1].argmin(axis=0).max())
    if queries.stop < last:
        last = queries.stop + 1 + int(along_row[queries.stop :].argmin(axis=0).max())
    return first, last


def _minimum_over_targets(
    squared: Int[np.ndarray, "q c"], along_row: Int[np.ndarray, "h c"], offset: int
) -> None:
    """Lower ``squared[r]`` in place to ``min_j along_row[j] + (offset + j - r)^2``."""
    buffer = np.empty_like(squared)
    rows = np.arange(squared.shape[0], dtype=np.int32)[:, None]
    for j in range(along_row.shape[0]):
        apart = rows - np.int32(offset + j)
        np.add(along_row[j], apart * apart, out=buffer)
        np.minimum(squared, buffer, out=squared)


def _minimum_over_shifts(
    squared: Int[np.ndarray, "q c"], along_row: Int[np.ndarray, "h c"], offset: int
) -> None:
    """Lower ``squared[r]`` in place to ``min_k along_row[r + offset + k] + k^2``.

    A shift by ``k`` can lower an entry only while ``k^2 < squared - min(along_row)`` of its column,
    which bounds the search and narrows the rows that still take part.
    """
    num_rows = along_row.shape[0]
    lowest = along_row.min(axis=0)
    buffer = np.empty_like(squared)
    first, last = 0, squared.shape[0]
    for step in range(max(last + offset, num_rows - offset)):
        if step % _STEPS_PER_CHECK == 0:
            open_rows = np.flatnonzero((squared - lowest).max(axis=1) > step * step)
            if open_rows.size == 0:
                return
            first, last = int(open_rows[0]), int(open_rows[-1]) + 1
        for shift in (step, -step) if step else (0,):
            start = max(first, -shift - offset)
            stop = min(last, num_rows - shift - offset)
            if start < stop:
                candidate = buffer[start:stop]
                source = along_row[start + offset + shift : stop + offset + shift]
                np.add(source, np.int32(step * step), out=candidate)
                np.minimum(squared[start:stop], candidate, out=squared[start:stop])
