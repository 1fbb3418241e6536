"""Protocol ``strict``: as ``paper``, but nothing escapes by vanishing, multiplying or stopping.

Per compared frame:

* **Missing.** If exactly one of the two masks is empty, the frame gets the worst case: l2 1 (the
  image diagonal), Chamfer 2 (the diagonal in both directions, which no pair of masks exceeds) and
  IoU 0. If both are empty they agree: 0, 0 and 1.
* **Spread.** l2 is the 2-Wasserstein distance of two Gaussians with the masks' centroids and
  covariances A and B: ``l2^2 = |c_gen - c_gt|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)``. For masks of
  one shape it is Eq. 6, for others it is more: concentric growth, and copies left and right of the
  truth whose common centroid is right, cost l2 too. No two masks exceed the diagonal (it is a lower
  bound of the true Wasserstein distance; Gelbrich 1990).
* **More pieces than the truth.** Counting 8-connected pieces of at least a tenth of the mask's or
  of the truth's largest (the smaller of the two: an object that grows must not make the rest too
  small to count), the frame is scored by its worst piece or by the whole, whichever is worse, in
  each metric: a copy at the right place doesn't make up for one at a wrong place.

Per clip:

* **Too short, too few.** Frames that a generated clip owes and lacks get the worst case as well. It
  owes its own rate, and at least ``MIN_FPS_HZ``, for as long as the truth lasts, up to
  ``DURATION_S``; frames after that are compared where both clips have them.

A frozen, teleporting or hovering object is charged by the distances as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from pisa.metrics.alignment import AlignedPair, align, nearest_frame, summarise
from pisa.metrics.chamfer import chamfer_px
from pisa.metrics.paper import diagonal_px
from pisa.ops.masks import AnnotatedPoints, MaskError, Masks, bounding_box, iou, to_binary

DURATION_S = 2.0  # of the paper's simulated clips and of what its own model makes (section 4.1)
MIN_FPS_HZ = 8.0  # the lowest rate of a model in paper Table 4

WORST = {"l2": 1.0, "chamfer": 2.0, "iou": 0.0}
_AGREED = {"l2": 0.0, "chamfer": 0.0, "iou": 1.0}
_ROUNDING = 1e-6  # of frame counts, in the clip's favour
_MIN_PIECE = 0.1  # of a largest piece's area
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def score(
    gt_masks: Masks,
    gen_masks: Masks,
    gt_fps: float,
    gen_fps: float,
    points: AnnotatedPoints | None = None,
) -> dict[str, Any]:
    """Keys as in ``evaluate_pair``, and four more.

    ``num_frames_uncovered``: frames owed and absent, which ``per_frame`` doesn't hold.
    ``miss_rate``: share of the frames with the object in the ground truth in which it is missing;
    uncovered frames count as such. ``spurious_rate``: share of the compared frames without it in
    which it appears (0 if there are none). ``split_rate``: share of the compared frames with more
    pieces than the ground truth. Raises ``MaskError`` if the ground truth shows the object in no
    compared frame.
    """
    pair = align(
        gt_masks,
        gen_masks,
        gt_fps,
        gen_fps,
        points,
        frame_index=nearest_frame,
        binarise=to_binary,
    )
    if not pair.gt.any():
        raise MaskError("the ground truth shows the dropping object in no compared frame")
    due = num_frames_due(pair.num_frames_gt, gt_fps, gen_fps)
    uncovered = max(0, due - len(pair.gt_index))
    pieces = [_extra_pieces(a, b) for a, b in zip(pair.gt, pair.gen, strict=True)]
    frames = [_frame_scores(*f) for f in zip(pair.gt, pair.gen, pieces, strict=True)]
    per_frame = {name: np.array([frame[name] for frame in frames]) for name in WORST}
    result = summarise(pair, per_frame, lambda values: float(values.mean()))
    share = uncovered / (uncovered + len(frames))
    result |= {name: (1 - share) * result[name] + share * worst for name, worst in WORST.items()}
    result["num_frames_uncovered"] = uncovered
    result["split_rate"] = float(np.mean([len(extra) > 0 for extra in pieces]))
    return result | _rates(pair, uncovered)


def num_frames_due(num_frames_gt: int, gt_fps_hz: float, gen_fps_hz: float) -> int:
    """How many frames a generated clip owes.

    Those that end before the truth and before ``DURATION_S``, and are nearest to one of its frames
    (at a higher rate than the truth's, the last ones are not).
    """
    rate_hz = max(gen_fps_hz, MIN_FPS_HZ)
    shown = min(num_frames_gt / gt_fps_hz, DURATION_S) * rate_hz
    paired = (num_frames_gt - 0.5) / gt_fps_hz * rate_hz
    return min(int(shown + _ROUNDING), math.ceil(paired - _ROUNDING))


def _rates(pair: AlignedPair, uncovered: int) -> dict[str, float]:
    in_gt, in_gen = (np.asarray(m.any(axis=(1, 2))) for m in (pair.gt, pair.gen))
    misses = np.count_nonzero(in_gt & ~in_gen) + uncovered
    return {
        "miss_rate": float(misses / (np.count_nonzero(in_gt) + uncovered)),
        "spurious_rate": float(in_gen[~in_gt].mean()) if (~in_gt).any() else 0.0,
    }


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


def _extra_pieces(
    gt: Bool[np.ndarray, "h w"], gen: Bool[np.ndarray, "h w"]
) -> list[Bool[np.ndarray, "h w"]]:
    """The generated mask's large pieces if the truth is seen and has fewer, else none.

    Nor are there any where each large piece can be given a piece of the truth, of any size, that it
    overlaps and no other is given: a truth of one large and two tiny pieces may grow as a whole.
    """
    box = bounding_box(gen)
    if box is None or not gt.any():
        return []
    labels, areas = _pieces(gen[box])
    if len(areas) == 1:
        return []
    gt_labels, gt_areas = _pieces(gt)
    large = np.flatnonzero(areas >= _MIN_PIECE * min(gt_areas.max(), areas.max())) + 1
    if len(large) <= np.count_nonzero(gt_areas >= _MIN_PIECE * gt_areas.max()):
        return []
    pieces = np.zeros((len(large), *gen.shape), dtype=bool)
    pieces[:, *box] = labels == large[:, None, None]
    return [] if _each_has_its_own(list(pieces), gt_labels) else list(pieces)


def _each_has_its_own(
    pieces: list[Bool[np.ndarray, "h w"]], gt_labels: Int[np.ndarray, "h w"]
) -> bool:
    num_labels = int(gt_labels.max()) + 1
    overlaps = [np.bincount(gt_labels[piece], minlength=num_labels)[1:] > 0 for piece in pieces]
    matching = maximum_bipartite_matching(csr_array(np.array(overlaps)), perm_type="column")
    return bool((matching >= 0).all())


def _pieces(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, " pieces"]]:
    """Numbers of the 8-connected components, from 1, and their areas in px."""
    labels, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    return labels, np.bincount(labels.reshape(-1))[1:]
