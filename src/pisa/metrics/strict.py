"""Protocol ``strict``: as ``paper``, but vanishing, exploding, multiplying or stopping is charged.

Per compared frame:

* **Missing.** If exactly one of the two masks is empty, the frame gets the worst case: l2 1 (the
  image diagonal), Chamfer 2 (the diagonal in both directions, which no pair of masks exceeds) and
  IoU 0. If both are empty they agree: 0, 0 and 1.
* **Too large.** A mask much larger than the object ever is (a tracker that lost its target and took
  the background) lies near everything, which Chamfer alone rewards. Up to twice the true area the
  distances count as they are; from there to four times, the frame moves linearly to the worst
  case. A true area of less than 2 % of the picture (hidden, or far away) counts as 2 %.
* **Spread.** l2 is the 2-Wasserstein distance of two Gaussians with the masks' centroids and
  covariances A and B: ``l2^2 = |c_gen - c_gt|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)``. For masks of
  one shape it is Eq. 6, for others it is more: concentric growth, and copies left and right of the
  truth whose common centroid is right, cost l2 too. No two masks exceed the diagonal (it is a lower
  bound of the true Wasserstein distance; Gelbrich 1990).
* **More pieces than the truth** (``pieces.extra_pieces``). The frame is scored by its worst piece
  or by the whole, whichever is worse, in each metric: a copy at the right place doesn't make up for
  one at a wrong place.

Per clip:

* **Too short, too few.** Frames that a generated clip owes and lacks get the worst case as well
  (``AlignedPair.num_frames_uncovered``); frames after that are compared where both clips have them.

A frozen, teleporting or hovering object is charged by the distances as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pisa.metrics.alignment import AlignedPair, Protocol, nearest_frame, summarise
from pisa.metrics.chamfer import chamfer_px
from pisa.metrics.paper import diagonal_px
from pisa.ops.masks import MaskError, bounding_box, iou, to_binary

WORST = {"l2": 1.0, "chamfer": 2.0, "iou": 0.0}
_AGREED = {"l2": 0.0, "chamfer": 0.0, "iou": 1.0}
_TOO_LARGE = (2.0, 4.0)  # times the true area: where the penalty begins, and is complete
_MIN_AREA = 0.02  # of the picture


def score(pair: AlignedPair) -> dict[str, Any]:
    """Keys as in ``evaluate_pair``; the means hold the uncovered frames, ``per_frame`` does not.

    Raises ``MaskError`` if the ground truth shows the object in no compared frame.
    """
    if not pair.gt.any():
        raise MaskError("the ground truth shows the dropping object in no compared frame")
    true_px, gen_px = (np.count_nonzero(m, axis=(1, 2)) for m in (pair.gt, pair.gen))
    times = gen_px / np.maximum(true_px, _MIN_AREA * pair.gt[0].size)
    excess = np.interp(times, _TOO_LARGE, (0.0, 1.0))
    frames = [
        _towards_worst(_frame_scores(gt, gen, pieces), float(share))
        for gt, gen, pieces, share in zip(pair.gt, pair.gen, pair.extra_pieces, excess, strict=True)
    ]
    per_frame = {name: np.array([frame[name] for frame in frames]) for name in WORST}
    result = summarise(pair, per_frame, lambda values: float(values.mean()))
    uncovered = pair.num_frames_uncovered
    lacking = _towards_worst(
        {name: result[name] for name in WORST}, uncovered / (uncovered + len(frames))
    )
    return result | lacking


def _towards_worst(scores: dict[str, float], share: float) -> dict[str, float]:
    """``share`` (0..1) of the way from the scores to the worst case."""
    return {name: (1 - share) * scores[name] + share * WORST[name] for name in WORST}


def _frame_scores(
    gt: Bool[np.ndarray, "h w"],
    gen: Bool[np.ndarray, "h w"],
    extra_pieces: list[Bool[np.ndarray, "h w"]],
) -> dict[str, float]:
    """l2, Chamfer and IoU of one frame: the worst over the whole mask and its extra pieces."""
    if not gt.any() or not gen.any():
        return WORST if gt.any() or gen.any() else _AGREED
    candidates = [gen, *extra_pieces]
    diagonal = diagonal_px(gt)
    return {
        "l2": max(spread_l2_px(gt, mask) for mask in candidates) / diagonal,
        "chamfer": max(chamfer_px(gt, mask) for mask in candidates) / diagonal,
        "iou": min(iou(gt, mask) for mask in candidates),
    }


def spread_l2_px(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    """Distance of two masks' centroids and covariances in px (see above); neither is empty."""
    (first_mean, a), (second_mean, b) = _moments(first), _moments(second)
    squared = float(((first_mean - second_mean) ** 2).sum())
    if not np.array_equal(a, b):  # equal ones would leave a rounding error
        determinants = max(0.0, _determinant(a)) * max(0.0, _determinant(b))
        # the trace of the square root of a 2 x 2 matrix, by Cayley and Hamilton
        shared = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(determinants))
        squared += max(0.0, float(np.trace(a) + np.trace(b) - 2 * shared))
    return float(np.sqrt(squared))


def _determinant(matrix: Float[np.ndarray, "2 2"]) -> float:
    return float(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])


def _moments(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """Centroid (x, y) and covariance of the pixel centres in px.

    The covariance is taken relative to the bounding box, so that moving a mask leaves it as it is
    to the last bit.
    """
    box = bounding_box(mask)
    assert box is not None
    crop = mask[box].astype(np.float64)
    y, x = (np.arange(side, dtype=np.float64) for side in crop.shape)
    rows, columns = crop.sum(axis=1), crop.sum(axis=0)
    area = rows.sum()
    mean = np.array([columns @ x, rows @ y]) / area
    xy = y @ crop @ x
    second = np.array([[columns @ x**2, xy], [xy, rows @ y**2]]) / area
    corner = np.array([box[1].start, box[0].start])
    return corner + mean, second - np.outer(mean, mean)


STRICT = Protocol("strict", nearest_frame, to_binary, score)
