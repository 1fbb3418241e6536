"""Protocol ``strict``: as ``paper``, but an object can't escape by vanishing or multiplying.

Per compared frame:

* **Missing.** If exactly one of the two masks is empty, the frame gets the worst case: l2 1 (the
  image diagonal), Chamfer 2 (the diagonal in both directions, which no pair of masks exceeds) and
  IoU 0. If both are empty they agree: 0, 0 and 1.
* **Split or duplicated.** l2 is the area-weighted mean over the generated pieces (8-connected) of
  the distance to the ground-truth centroid (to the nearest piece's centroid where the ground truth
  is itself in pieces), and never less than the distance of the whole centroids. Two copies left and
  right of the truth don't cancel out. For masks in one piece this is Eq. 6.
* **More pieces than the truth.** Counting pieces of at least a tenth of the largest, the frame is
  scored by its worst piece or by the whole, whichever is worse, in each metric: a copy at the right
  place doesn't make up for one at a wrong place.

A frozen, teleporting or hovering object is charged by the distances as they are. Concentric growth
shows in Chamfer and IoU only: l2 measures position.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pisa.metrics.alignment import AlignedPair, align, nearest_frame, summarise
from pisa.metrics.chamfer import chamfer_px
from pisa.metrics.paper import diagonal_px
from pisa.ops.masks import AnnotatedPoints, MaskError, Masks, centroid, iou, to_binary

_WORST = (1.0, 2.0, 0.0)  # l2, Chamfer, IoU
_AGREED = (0.0, 0.0, 1.0)
_MIN_PIECE = 0.1  # of the largest piece's area
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def score(
    gt_masks: Masks,
    gen_masks: Masks,
    gt_fps: float,
    gen_fps: float,
    points: AnnotatedPoints | None = None,
) -> dict[str, Any]:
    """Keys as in ``evaluate_pair``, and three more.

    ``miss_rate``: share of the compared frames with the object in the ground truth in which it is
    missing. ``spurious_rate``: share of those without it in which it appears (0 if there are none).
    ``split_rate``: share of all compared frames with more pieces than the ground truth.
    Raises ``MaskError`` if the ground truth shows the object in no compared frame.
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
    frames = [_frame_scores(a, b) for a, b in zip(pair.gt, pair.gen, strict=True)]
    names = ("l2", "chamfer", "iou")
    per_frame = {name: np.array([f[i] for f in frames]) for i, name in enumerate(names)}
    return summarise(pair, per_frame, lambda values: float(values.mean())) | _rates(pair)


def _rates(pair: AlignedPair) -> dict[str, float]:
    in_gt, in_gen = (np.asarray(m.any(axis=(1, 2))) for m in (pair.gt, pair.gen))
    split = [_is_split(a, b) for a, b in zip(pair.gt, pair.gen, strict=True)]
    return {
        "miss_rate": float((~in_gen[in_gt]).mean()),
        "spurious_rate": float(in_gen[~in_gt].mean()) if (~in_gt).any() else 0.0,
        "split_rate": float(np.mean(split)),
    }


def _frame_scores(
    gt: Bool[np.ndarray, "h w"], gen: Bool[np.ndarray, "h w"]
) -> tuple[float, float, float]:
    """l2, Chamfer and IoU of one frame."""
    if not gt.any() or not gen.any():
        return _WORST if gt.any() or gen.any() else _AGREED
    l2_px = [_l2_px(gt, gen)]
    distance_px, overlap = [chamfer_px(gt, gen)], [iou(gt, gen)]
    if _is_split(gt, gen):
        for piece in _large_pieces(gen):
            l2_px.append(_l2_px(gt, piece))
            distance_px.append(chamfer_px(gt, piece))
            overlap.append(iou(gt, piece))
    diagonal = diagonal_px(gt)
    return max(l2_px) / diagonal, max(distance_px) / diagonal, min(overlap)


def _l2_px(gt: Bool[np.ndarray, "h w"], gen: Bool[np.ndarray, "h w"]) -> float:
    """Distance of the generated pieces to the ground truth (see above)."""
    whole = float(np.linalg.norm(centroid(gen) - centroid(gt)))
    gen_pieces, gt_pieces = _pieces(gen), _pieces(gt)
    if len(gen_pieces) == len(gt_pieces) == 1:
        return whole
    anchors = np.array([centroid(piece) for piece in gt_pieces])
    nearest = [_nearest_px(centroid(piece), anchors) for piece in gen_pieces]
    areas = [np.count_nonzero(piece) for piece in gen_pieces]
    return max(whole, float(np.average(nearest, weights=areas)))


def _nearest_px(point: Float[np.ndarray, " 2"], anchors: Float[np.ndarray, "a 2"]) -> float:
    return float(np.linalg.norm(anchors - point, axis=1).min())


def _is_split(gt: Bool[np.ndarray, "h w"], gen: Bool[np.ndarray, "h w"]) -> bool:
    return bool(gt.any()) and len(_large_pieces(gen)) > len(_large_pieces(gt))


def _pieces(mask: Bool[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """The 8-connected components."""
    labels, num_pieces = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    return [labels == i for i in range(1, num_pieces + 1)]


def _large_pieces(mask: Bool[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """Components of at least ``_MIN_PIECE`` of the largest one's area."""
    pieces = _pieces(mask)
    areas = [np.count_nonzero(piece) for piece in pieces]
    return [p for p, a in zip(pieces, areas, strict=True) if a >= _MIN_PIECE * max(areas)]
