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

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from pisa.ops.masks import bounding_box

Box: TypeAlias = tuple[slice, slice]
_FAR = np.int16(np.iinfo(np.int16).max)  # in px; _FAR^2 + k^2 stays within int32
_MAX_SIDE_PX = 16384
_SHIFTS_AT_ONCE = 24


def chamfer_px(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    """Sum of both directed mean distances in px (paper Appendix B); NaN if a mask is empty.

    Raises ``ValueError`` for masks whose squared distances would not fit the integers used.
    """
    first_box, second_box = bounding_box(first), bounding_box(second)
    if first_box is None or second_box is None:
        return float("nan")
    if max(*first.shape, *second.shape) > _MAX_SIDE_PX:
        raise ValueError(f"masks larger than {_MAX_SIDE_PX} px a side are not supported")
    rows, columns = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first_box, second_box, strict=True)
    )
    region = (rows, columns)
    down = _moves_mostly_down(first_box, second_box)
    first = _joint_crop(first, first_box, region, transposed=down)
    second = _joint_crop(second, second_box, region, transposed=down)
    forward = _distance_sum_px(first, second) / np.count_nonzero(first)
    return forward + _distance_sum_px(second, first) / np.count_nonzero(second)


def _joint_crop(
    mask: Bool[np.ndarray, "h w"], box: Box, region: Box, *, transposed: bool
) -> Bool[np.ndarray, "i j"]:
    """The region of a mask that is empty outside its box (which transposes less)."""
    size = [joint.stop - joint.start for joint in region]
    inner = [slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True)]
    crop = np.zeros(size[::-1] if transposed else size, dtype=bool)
    (crop.T if transposed else crop)[tuple(inner)] = mask[box]
    return crop


def _moves_mostly_down(first: Box, second: Box) -> bool:
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
    distance = _row_distance(target, columns)
    first, last = _useful_rows(distance, rows)
    along_row = _squared(distance[first:last], target.shape[0])
    squared = outside[box].astype(along_row.dtype)
    squared *= np.iinfo(along_row.dtype).max
    _minimum_over_shifts(squared, along_row, rows.start - first)
    return float(np.sqrt(squared, dtype=np.float64).sum())


def _squared(distance: Int[np.ndarray, "h c"], height: int) -> Int[np.ndarray, "h c"]:
    """Squares, in 16 bits where they hold every sum, which halves the time.

    No nearest distance exceeds the root of ``bound``, so larger entries never win and may be cut.
    """
    bound = int(distance.min(axis=0).max()) ** 2 + height**2
    limit = math.isqrt(bound) + 1
    if limit**2 + (height + _SHIFTS_AT_ONCE) ** 2 > np.iinfo(np.uint16).max:
        wide = distance.astype(np.int32)
        return wide * wide
    cut = np.minimum(distance, np.int16(limit)).view(np.uint16)
    return cut * cut


def _row_distance(target: Bool[np.ndarray, "h w"], columns: slice) -> Int[np.ndarray, "h c"]:
    """Distance to the nearest target pixel of the same row in px; ``_FAR`` in empty rows."""
    height, width = target.shape
    padded = np.zeros((height, width + 2), dtype=bool)
    padded[:, 1:-1] = target
    flat = padded.reshape(-1)
    edges = (flat[1:] != flat[:-1]).nonzero()[0]  # runs begin and end in turn
    rows, left = np.divmod(edges[0::2].astype(np.int32), np.int32(width + 2))
    right = edges[1::2].astype(np.int32) % np.int32(width + 2) - 1
    if not (rows[1:] > rows[:-1]).all():  # several runs in a row
        return _distance_to_any_run(target)[:, columns]
    x = np.arange(columns.start, columns.stop, dtype=np.int16)
    distance = left.astype(np.int16)[:, None] - x
    np.maximum(distance, x - right.astype(np.int16)[:, None], out=distance)
    np.maximum(distance, np.int16(0), out=distance)
    if len(rows) == height:
        return distance
    filled = np.full((height, len(x)), _FAR)
    filled[rows] = distance
    return filled


def _distance_to_any_run(target: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """The same for any number of runs in a row."""
    x = np.arange(target.shape[1], dtype=np.int32)
    left = np.maximum.accumulate(np.where(target, x, -int(_FAR)), axis=1)
    right = np.minimum.accumulate(np.where(target, x, 2 * int(_FAR))[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(x - left, right - x), int(_FAR)).astype(np.int16)


def _useful_rows(distance: Int[np.ndarray, "h c"], queries: slice) -> tuple[int, int]:
    """Range of the target rows that some row nearer to the queries doesn't beat in every column."""
    filled = (distance[:, 0] < _FAR).nonzero()[0]
    first, last = int(filled[0]), int(filled[-1]) + 1
    if queries.start > first:
        above = distance[queries.start - 1 :: -1].argmin(axis=0).max()
        first = max(first, queries.start - 1 - int(above))
    if queries.stop < last:
        below = distance[queries.stop :].argmin(axis=0).max()
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
    target rows at least that far down is below it. This narrows the rows that still take part, and
    says after how many shifts the last of them is done. The last target row is repeated below
    itself, which never wins.
    """
    num_queries, num_rows = squared.shape[0], along_row.shape[0]
    least = _least_from_here_on(along_row)
    padded = np.concatenate([along_row, np.repeat(along_row[-1:], _SHIFTS_AT_ONCE, axis=0)])
    first, last = 0, num_queries
    step = max(1, 1 - offset - num_queries)  # the first shift that reaches a target row
    while first < last and step < num_rows - offset:
        start = max(first, -step - offset)
        stop = min(last, num_rows - step - offset)
        if start > first:  # queries above it reach the targets by a later shift
            _lower(squared[start:stop], padded[start + offset + step :], step, 1)
            step += 1
            continue
        rest = least[start + offset + step : stop + offset + step]
        useful = np.maximum(squared[start:stop], rest + squared.dtype.type(step * step))
        useful -= rest  # k^2 must be less than this
        useful_in_row = useful.max(axis=1)
        still_open = (useful_in_row > step * step).nonzero()[0]
        if not still_open.size:
            return
        first, last = start + int(still_open[0]), start + int(still_open[-1]) + 1
        furthest = math.isqrt(int(useful_in_row.max()) - 1)
        count = min(_SHIFTS_AT_ONCE, furthest - step + 1)
        _lower(squared[first:last], padded[first + offset + step :], step, count)
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
    """Minimum over this row and all below it, by doubling (``accumulate`` takes longer)."""
    least, spare = along_row, np.empty((2, *along_row.shape), dtype=along_row.dtype)
    reach, turn = 1, 0
    while reach < len(along_row):
        np.minimum(least[:-reach], least[reach:], out=spare[turn][:-reach])
        spare[turn][-reach:] = least[-reach:]
        least, reach, turn = spare[turn], 2 * reach, 1 - turn
    return least
