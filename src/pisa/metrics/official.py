"""Protocol ``official``: what the paper's release computes, to the digit, quirks included.

Quirks (named here, corrected in ``paper``):

* l2 is the mean of ``|dx|`` and ``|dy|``, not a Euclidean norm (paper Eq. 6): an offset of (3, 4)
  px counts as 3.5 px.
* Alignment takes the floor, not the nearest ground-truth frame (paper Eq. 5).
* The mask height normalises both axes, on frames that aren't square too.
* Only values equal to 1 are foreground: masks with 255 count as empty.
* Frames where either mask is empty are NaN in l2 and Chamfer and left out of their means. IoU is 0
  with one empty mask and 1 with two.

Where the release raised an exception, ``MaskError`` is raised. With no frames to compare it gave
NaN, and so does this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pisa.metrics.alignment import (
    AlignedPair,
    Protocol,
    floor_frame,
    mean_of_defined,
    summarise,
)
from pisa.metrics.chamfer import chamfer_px
from pisa.ops.masks import equal_to_one, iou


def score(pair: AlignedPair) -> dict[str, Any]:
    """Keys as in ``evaluate_pair``."""
    per_frame = {
        "l2": official_l2(pair.gt_centroid_px, pair.gen_centroid_px, pair.gt.shape[1]),
        "chamfer": official_chamfer(pair.gt, pair.gen),
        "iou": np.array([iou(a, b) for a, b in zip(pair.gt, pair.gen, strict=True)]),
    }
    return summarise(pair, per_frame, mean_of_defined)


def official_l2(
    gt_px: Float[np.ndarray, "k 2"], gen_px: Float[np.ndarray, "k 2"], height: int
) -> Float[np.ndarray, " k"]:
    """``(|dx| + |dy|) / 2 / (sqrt(2) * height)`` of the centroids; NaN where a mask is empty."""
    return np.abs(gen_px - gt_px).mean(axis=1) / (np.sqrt(2.0) * height)


def official_chamfer(
    gt: Bool[np.ndarray, "k h w"], gen: Bool[np.ndarray, "k h w"]
) -> Float[np.ndarray, " k"]:
    """Both directed mean distances, added, ``/ (sqrt(2) * height)``; NaN where one is empty."""
    distance_px = np.array([chamfer_px(a, b) for a, b in zip(gt, gen, strict=True)])
    return distance_px / (np.sqrt(2.0) * gt.shape[1])


OFFICIAL = Protocol("official", floor_frame, equal_to_one, score)
