"""Which failures of paper Appendix J a generated clip's mask trajectory shows.

Trajectory correctness: ``hovers``, ``rises``, ``too_slow``, ``horizontal``. Object consistency:
``vanishes``, ``deforms``, ``new_object``. Scene consistency: ``scene_cut``. All are read from the
masks of the dropping object alone: a new object is seen where the mask comes in more pieces, a cut
where the object jumps. ``docs/reference/metrics.md`` has the measured precision and recall;
``benchmarks/failure_labels.py`` measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pisa.metrics.readout import fit_gravity, read_out
from pisa.ops.masks import Masks, bounding_box, centroids, select_object, to_binary

LABELS = (
    "hovers", "rises", "too_slow", "horizontal", "vanishes", "deforms", "new_object", "scene_cut",
)  # fmt: skip
_HOVER, _SLOW = 0.15, 0.6  # of the true fall, of the true acceleration
_SIDE, _JUMP = 0.1, 0.2  # of the frame's width and of its diagonal per frame
_DEFORMED = 0.2  # natural logarithm, beyond anything the true object shows
_OFTEN = 0.25  # of the frames
_MISSING = 2  # frames
_PIECE = 0.3  # of the largest piece
_SPECK = 0.12  # of the largest piece: a tracker's stray pixels, part of no object
_DIFFERENT = 0.4  # natural logarithm, from the true object where that is


def failure_labels(gen_masks: Masks, gt_masks: Masks, fps_hz: float) -> set[str]:
    """Labels of a generated clip beside its true clip, both ``[T, H, W]`` at one rate.

    Specks are removed from both first, see ``without_specks``.
    """
    gen, gt = (without_specks(to_binary(select_object(m))) for m in (gen_masks, gt_masks))
    length = min(len(gen), len(gt))
    gen, gt = gen[:length], gt[:length]
    centre, truth = centroids(gen), centroids(gt)
    labels: set[str] = set()
    if _vanishes(gen, gt):
        labels.add("vanishes")
    if _new_piece(gen, gt):
        labels.add("new_object")
    cut = _jumps(centre, gen.shape[1:]) & ~_jumps(truth, gt.shape[1:])
    cuts = np.flatnonzero(cut)
    if len(cuts) and "new_object" not in labels:  # a second piece moves the centroid too
        labels.add("scene_cut")
        gen, gt, centre, truth = (a[: cuts[0] + 1] for a in (gen, gt, centre, truth))
    return labels | _motion_labels(gen, gt, fps_hz, "new_object" in labels)


def without_specks(track: Bool[np.ndarray, "t h w"]) -> Bool[np.ndarray, "t h w"]:
    """Without pieces under ``_SPECK`` of the largest one's area in their frame (8-connected)."""
    kept = track.copy()
    for t, mask in enumerate(track):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        if count > 1:
            areas = np.bincount(labels.reshape(-1))
            areas[0] = 0
            kept[t] = (areas >= _SPECK * areas.max())[labels] & mask
    return kept


def _motion_labels(gen: np.ndarray, gt: np.ndarray, fps_hz: float, split: bool) -> set[str]:
    """Labels of the trajectory up to the first cut; a mask in pieces has no shape or path."""
    centre, truth = centroids(gen), centroids(gt)
    both = ~np.isnan(centre[:, 1]) & ~np.isnan(truth[:, 1])
    if split or np.count_nonzero(both) < 3:
        return set()
    whole = both & ~(_edges(gen) & ~_edges(gt)).any(axis=1)  # or the truth is cut as well
    labels: set[str] = set()
    fallen, true_fall = (np.nanmax(c[both, 1]) - c[0, 1] for c in (centre, truth))
    if centre[0, 1] - np.nanmin(_heights(gen)) > _HOVER * true_fall:
        labels.add("rises")
    elif fallen < _HOVER * true_fall:
        labels.add("hovers")
    else:
        truly = read_out(gt, fps_hz)
        before = slice(0, truly.impact_frame or len(gt))
        if fit_gravity(centre[before, 1])[0] < _SLOW * fit_gravity(truth[before, 1])[0]:
            labels.add("too_slow")
    early = slice(0, read_out(gt, fps_hz).impact_frame)
    width_px = gen.shape[2] * len(truth[early]) / len(gt)
    if _aside_px(gen[early], gt[early], whole[early]) > _SIDE * width_px:
        labels.add("horizontal")
    if _deformed(gen[both], gt[both], whole[both], in_time=not labels):
        labels.add("deforms")
    return labels


def _vanishes(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> bool:
    """Missing where the truth is seen, without having left the frame."""
    missing = gt.any(axis=(1, 2)) & ~gen.any(axis=(1, 2))
    beside = _at_edge(gt) & (gen & gt).any(axis=(1, 2))  # the true object rests at the edge
    left = np.maximum.accumulate(_at_edge(gen) & ~beside)
    return int(np.count_nonzero(missing & ~left)) >= _MISSING


def _at_edge(track: Bool[np.ndarray, "t h w"]) -> Bool[np.ndarray, " t"]:
    return np.asarray(_edges(track).any(axis=1))


def _edges(track: Bool[np.ndarray, "t h w"]) -> Bool[np.ndarray, "t 4"]:
    """Which of the frame's edges each mask touches: top, bottom, left, right."""
    sides = (track[:, 0], track[:, -1], track[:, :, 0], track[:, :, -1])
    return np.stack([side.any(axis=1) for side in sides], axis=1)


def _deformed(
    gen: Bool[np.ndarray, "t h w"],
    gt: Bool[np.ndarray, "t h w"],
    whole: Bool[np.ndarray, " t"],
    in_time: bool,
) -> bool:
    """Area or aspect off in too many frames.

    Off is what is beyond the range of the whole true clip: an object that tumbles earlier or later
    than it should is not deformed. One that moves ``in_time`` is compared frame by frame as well.
    Where the frame cuts a mask, only an area above the range tells.
    """
    area, true_area = (np.log(m.sum(axis=(1, 2))) for m in (gen, gt))
    aspect, true_aspect = _aspects(gen), _aspects(gt)
    near = whole & in_time & _beside(gen, gt)
    off = near & (np.abs(area - true_area) > _DIFFERENT)
    off |= near & (np.abs(aspect - true_aspect) > _DIFFERENT)
    off |= area > true_area.max() + _DEFORMED
    off |= whole & (area < true_area.min() - _DEFORMED)
    off |= whole & (aspect > true_aspect.max() + _DEFORMED)
    off |= whole & (aspect < true_aspect.min() - _DEFORMED)
    return bool(off.mean() >= _OFTEN)


def _aside_px(
    gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"], whole: Bool[np.ndarray, " t"]
) -> float:
    """How far both sides of the object get outside of the true one's path, vertical or not."""
    sides, true_sides = (_boxes(m)[:, 2:] for m in (gen, gt))
    right = np.min(sides - np.nanmax(true_sides, axis=0), axis=1)[whole]
    left = np.min(np.nanmin(true_sides, axis=0) - sides, axis=1)[whole]
    return float(max(right.max(), left.max())) if whole.any() else 0.0


def _beside(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> np.ndarray:
    """Where the centroids are within half a side of the true box of each other."""
    top, bottom, left, right = _boxes(gt).T
    apart = np.linalg.norm(centroids(gen) - centroids(gt), axis=1)
    return np.asarray(apart <= (np.maximum(bottom - top, right - left) + 1) / 2)


def _boxes(track: Bool[np.ndarray, "t h w"]) -> Float[np.ndarray, "t 4"]:
    """First and last row, first and last column of each mask; NaN without one."""
    boxes = [bounding_box(mask) for mask in track]
    found = [b and (b[0].start, b[0].stop - 1, b[1].start, b[1].stop - 1) for b in boxes]
    return np.array([b or (np.nan,) * 4 for b in found], dtype=float)


def _heights(track: Bool[np.ndarray, "t h w"]) -> np.ndarray:
    """Centroid y; where the frame cuts the upper side off, from the lower side. NaN: no mask."""
    y = centroids(track)[:, 1]
    lower = _boxes(track)[:, 1]
    return np.where(track[:, 0].any(axis=1), lower - (lower[0] - y[0]), y)


def _aspects(track: Bool[np.ndarray, "t h w"]) -> np.ndarray:
    """Logarithm of height over width of the box around each mask."""
    top, bottom, left, right = _boxes(track).T
    return np.asarray(np.log((bottom - top + 1) / (right - left + 1)))


def _new_piece(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> bool:
    """In more pieces than the true object ever shows (something thin may stand before it)."""
    most = max(1, *(_num_pieces(mask) for mask in gt))
    return sum(_num_pieces(mask) > most for mask in gen) >= _MISSING


def _num_pieces(mask: Bool[np.ndarray, "h w"]) -> int:
    """Large pieces; those at one edge of the frame count once, as it may cut an object in two."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels.reshape(-1), minlength=count + 1)
    areas[0] = 0
    large = set(np.flatnonzero(areas >= max(1, _PIECE * areas.max())).tolist())
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        large -= set(sorted(large & set(edge.tolist()))[1:])
    return len(large)


def _jumps(centre: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Per step: farther than any fall of the benchmark moves in one frame."""
    step = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    return np.nan_to_num(step) > _JUMP * float(np.hypot(size[0], size[1]))
