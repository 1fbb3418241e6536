"""Protocol ``paper``: Eqs. 5-7 and the Chamfer distance of Appendix B as they are meant.

* Ground-truth frame nearest in time (Eq. 5 with the ratio the right way up).
* l2 is the Euclidean distance of the centroids (Eq. 6).
* l2 and Chamfer are divided by the image diagonal ``sqrt(H^2 + W^2)``, which is the release's
  ``sqrt(2) * H`` on square frames. The paper's equations print no normalisation; its tables do
  hold normalised values.
* Foreground is non-zero (bool, integers) or above 0.5 (floats).

The paper leaves frames with an empty mask open. Here l2 and Chamfer are undefined (NaN) there and
left out of the mean, as in the release; IoU is 0 with one empty mask and 1 with two. ``strict``
closes this gap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pisa.metrics.alignment import (
    AlignedPair,
    Protocol,
    mean_of_defined,
    nearest_frame,
    summarise,
)
from pisa.metrics.chamfer import chamfer_px
from pisa.ops.masks import MaskError, iou, to_binary


def score(pair: AlignedPair) -> dict[str, Any]:
    """Keys as in ``evaluate_pair``. Raises ``MaskError`` if there are no frames to compare."""
    if len(pair.gt_index) == 0:
        raise MaskError("there are no frames to compare")
    frames = list(zip(pair.gt, pair.gen, strict=True))
    per_frame = {
        "l2": euclidean_l2(pair.gt_centroid_px, pair.gen_centroid_px) / diagonal_px(pair.gt[0]),
        "chamfer": np.array([chamfer_px(a, b) for a, b in frames]) / diagonal_px(pair.gt[0]),
        "iou": np.array([iou(a, b) for a, b in frames]),
    }
    return summarise(pair, per_frame, mean_of_defined)


def diagonal_px(mask: Bool[np.ndarray, "h w"]) -> float:
    """``sqrt(H^2 + W^2)``."""
    return float(np.hypot(*mask.shape))


def euclidean_l2(
    gt_px: Float[np.ndarray, "k 2"], gen_px: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, " k"]:
    """Distance of the centroids per frame in px (paper Eq. 6); NaN where a mask is empty."""
    return np.linalg.norm(gen_px - gt_px, axis=1)


PAPER = Protocol("paper", nearest_frame, to_binary, score)
