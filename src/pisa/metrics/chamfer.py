"""Chamfer distance between two masks by exact Euclidean distance transforms.

On a pixel grid the distance transform of a mask's complement holds, for every pixel, the distance
to the mask's nearest pixel: the same numbers as a KD-tree query, at a fraction of the cost.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from pisa.ops.masks import bounding_box


def chamfer_px(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    """Sum of both directed mean distances in px (paper Appendix B); NaN if a mask is empty."""
    first_box, second_box = bounding_box(first), bounding_box(second)
    if first_box is None or second_box is None:
        return float("nan")
    # No nearest pixel lies outside the box around both masks.
    joint = tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first_box, second_box, strict=True)
    )
    first, second = first[joint], second[joint]
    return _mean_distance_px(first, second) + _mean_distance_px(second, first)


def _mean_distance_px(query: Bool[np.ndarray, "h w"], target: Bool[np.ndarray, "h w"]) -> float:
    """Mean over the query's pixels of the distance to the nearest target pixel."""
    if not (query & ~target).any():
        return 0.0
    from scipy.ndimage import distance_transform_edt  # half a second, of importing pisa.metrics

    return float(distance_transform_edt(~target)[query].mean())
