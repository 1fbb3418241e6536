"""Chamfer distance between two masks by exact distance transforms.

The plain way builds a KD-tree of each mask's pixels and queries it with the other's. On a pixel
grid the same nearest distances come from a separable squared distance transform (Felzenszwalb and
Huttenlocher, "Distance Transforms of Sampled Functions", 2012), here with integer arithmetic, so
that it is exact, and restricted in three ways that change no result:

* only the two bounding boxes are looked at;
* pixels inside both masks are at distance zero;
* the search along the second axis stops, on each side and in each row, once no query pixel can
  still improve; it takes several shifts in one NumPy call, in 16 bits where they suffice.

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
_SHIFTS_AT_ONCE = 24


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
    along_row = _compact(along_row[first:last], target.shape[0])
    squared = np.where(outside[box], along_row.dtype.type(np.iinfo(along_row.dtype).max), 0)
    _minimum_over_shifts(squared, along_row, rows.start - first)
    return float(np.sqrt(squared, dtype=np.float64).sum())


def _compact(along_row: Int[np.ndarray, "h c"], height: int) -> Int[np.ndarray, "h c"]:
    """The same in 16 bits where they hold every sum, which halves the time.

    No nearest distance exceeds ``bound``, so larger entries never win and may be cut to it.
    """
    bound = int(along_row.min(axis=0).max()) + height**2
    if bound + (height + _SHIFTS_AT_ONCE) ** 2 > np.iinfo(np.uint16).max:
        return along_row
    return np.minimum(along_row, np.int32(bound)).astype(np.uint16)


def _squared_row_distance(
    target: Bool[np.ndarray, "h w"], columns: slice
) -> Int[np.ndarray, "h c"]:
    """Squared distance to the nearest target pixel of the same row; ``_FAR`` in empty rows."""
    height, width = target.shape
    padded = np.zeros((height, width + 2), dtype=bool)
    padded[:, 1:-1] = target
    flat = padded.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]).astype(np.int32)  # runs begin and end in turn
    rows, left = np.divmod(edges[0::2], np.int32(width + 2))
    squared = np.full((height, columns.stop - columns.start), _FAR)
    if (rows[1:] > rows[:-1]).all():  # at most one run in each row
        right = edges[1::2] % np.int32(width + 2) - 1
        x = np.arange(columns.start, columns.stop, dtype=np.int32)
        distance = np.maximum(left[:, None] - x, x - right[:, None])
        np.maximum(distance, 0, out=distance)
        squared[rows] = distance * distance
    else:
        distance = _row_distance(target)[:, columns]
        squared[rows] = (distance * distance)[rows]
    return squared


def _row_distance(target: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Distance to the nearest target pixel of the same row, any number of runs per row."""
    x = np.arange(target.shape[1], dtype=np.int32)
    left = np.maximum.accumulate(np.where(target, x, -_BEYOND), axis=1)
    right = np.minimum.accumulate(np.where(target, x, _BEYOND)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(x - left, right - x)


def _useful_rows(along_row: Int[np.ndarray, "h c"], queries: slice) -> tuple[int, int]:
    """Range of the target rows that some row nearer to the queries doesn't beat in every column."""
    filled = np.flatnonzero(along_row[:, 0] < _FAR)
    first, last = int(filled[0]), int(filled[-1]) + 1
    if queries.start > first:
        above = along_row[queries.start - 1 :: -1].argmin(axis=0).max()
        first = max(first, queries.start - 1 - int(above))
    if queries.stop < last:
        below = along_row[queries.stop :].argmin(axis=0).max()
        last = min(last, queries.stop + 1 + int(below))
    return first, last


def _minimum_over_shifts(
    squared: Int[np.ndarray, "q c"], along_row: Int[np.ndarray, "h c"], offset: int
) -> None:
    """Lower ``squared[r]`` in place to ``min_k along_row[r + offset + k] + k^2``."""
    num_queries, num_rows = squared.shape[0], along_row.shape[0]
    start, stop = max(0, -offset), min(num_queries, num_rows - offset)
    if start < stop:
        own = along_row[start + offset : stop + offset]
        np.minimum(squared[start:stop], own, out=squared[start:stop])
    _search_downwards(squared, along_row, offset)
    flipped = np.ascontiguousarray(squared[::-1])
    _search_downwards(flipped, along_row[::-1], num_rows - offset - num_queries)
    squared[:] = flipped[::-1]


def _search_downwards(
    squared: Int[np.ndarray, "q c"], along_row: Int[np.ndarray, "h c"], offset: int
) -> None:
    """The shifts ``k > 0`` of ``_minimum_over_shifts``, several at once.

    Shifts by ``k`` and more can lower an entry only while ``k^2`` plus the least entry of the
    target rows at least that far down is below it. This narrows the rows that still take part.
    The last target row is repeated below itself, which never wins.
    """
    num_queries, num_rows = squared.shape[0], along_row.shape[0]
    least = _least_from_here_on(along_row)
    padded = np.concatenate([along_row, np.repeat(along_row[-1:], _SHIFTS_AT_ONCE, axis=0)])
    first, last = 0, num_queries
    step = max(1, 1 - offset - num_queries)  # the first shift that reaches a target row
    while first < last and step < num_rows - offset:
        start = max(first, -step - offset)  # queries above it reach the targets by a later shift
        stop = min(last, num_rows - step - offset)
        count = _SHIFTS_AT_ONCE if start == first else 1
        below = start + offset + step
        bound = least[below : below + stop - start] + squared.dtype.type(step * step)
        still_open = np.flatnonzero((bound < squared[start:stop]).any(axis=1))
        last = start + int(still_open[-1]) + 1 if still_open.size else start
        if still_open.size:
            begin = start + int(still_open[0])
            first = begin if start == first else first
            _lower(squared[begin:last], padded[begin + offset + step :], step, count)
        step += count


def _lower(
    squared: Int[np.ndarray, "q c"], along_row: Int[np.ndarray, "h c"], step: int, count: int
) -> None:
    """Lower ``squared[r]`` in place to ``min_i along_row[r + i] + (step + i)^2``, ``i < count``."""
    step_bytes = along_row.strides[0]
    windows = np.ndarray(
        (count, squared.size), along_row.dtype, along_row, strides=(step_bytes, along_row.itemsize)
    )
    apart = np.arange(step, step + count, dtype=squared.dtype)[:, None]
    candidates = (windows + apart * apart).min(axis=0)
    flat = squared.reshape(-1)
    np.minimum(flat, candidates, out=flat)


def _least_from_here_on(along_row: Int[np.ndarray, "h c"]) -> Int[np.ndarray, "h c"]:
    """Minimum over this row and all below it, by doubling (``accumulate`` takes twice as long)."""
    least = along_row.copy()
    reach = 1
    while reach < len(least):
        np.minimum(least[:-reach], least[reach:], out=least[:-reach])
        reach *= 2
    return least
