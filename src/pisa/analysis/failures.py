"""Which failures of paper Appendix J a generated clip's mask trajectory shows.

Trajectory correctness: ``hovers``, ``rises``, ``too_slow``, ``horizontal``. Object consistency:
``vanishes``, ``deforms``, ``new_object``. Scene consistency: ``scene_cut``. All are read from the
masks of the dropping object alone: a new object is seen where the mask comes in more pieces, a cut
where the object jumps. ``docs/red_team.md`` has the measured precision and recall.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from pisa.analysis.readout import fit_gravity, read_out
from pisa.ops.masks import Masks, centroids, select_object, to_binary

LABELS = (
    "hovers", "rises", "too_slow", "horizontal", "vanishes", "deforms", "new_object", "scene_cut",
)  # fmt: skip
_HOVER, _SLOW = 0.15, 0.6  # of the true fall, of the true acceleration
_SIDE, _JUMP = 0.1, 0.2  # of the frame's width and of its diagonal per frame
_DEFORMED = 0.45  # natural logarithm
_MISSING = 2  # frames
_PIECE = 0.3  # of the largest piece


def failure_labels(gen_masks: Masks, gt_masks: Masks, fps_hz: float) -> set[str]:
    """Labels of a generated clip beside its true clip, both ``[T, H, W]`` at one rate."""
    gen, gt = (to_binary(select_object(m)) for m in (gen_masks, gt_masks))
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


def _motion_labels(gen: np.ndarray, gt: np.ndarray, fps_hz: float, split: bool) -> set[str]:
    """Labels of the trajectory up to the first cut; a mask in pieces has no shape or path."""
    centre, truth = centroids(gen), centroids(gt)
    both = ~np.isnan(centre[:, 1]) & ~np.isnan(truth[:, 1])
    if split or np.count_nonzero(both) < 3:
        return set()
    labels: set[str] = set()
    fallen, true_fall = (np.nanmax(c[both, 1]) - c[0, 1] for c in (centre, truth))
    if centre[0, 1] - np.nanmin(centre[both, 1]) > _HOVER * true_fall:
        labels.add("rises")
    elif fallen < _HOVER * true_fall:
        labels.add("hovers")
    else:
        truly = read_out(gt, fps_hz)
        before = slice(0, truly.impact_frame or len(gt))
        if fit_gravity(centre[before, 1])[0] < _SLOW * fit_gravity(truth[before, 1])[0]:
            labels.add("too_slow")
    early = both[: read_out(gt, fps_hz).impact_frame]
    aside = np.abs(centre[: len(early), 0] - truth[: len(early), 0])[early]
    if len(aside) and aside.max() > _SIDE * gen.shape[2] * len(early) / len(gt):
        labels.add("horizontal")
    whole = both & ~_at_edge(gen) & ~_at_edge(gt)
    if whole.any() and _deformed(gen[whole], gt[whole]):
        labels.add("deforms")
    return labels


def _vanishes(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> bool:
    """Missing where the truth is seen, without having left the frame."""
    missing = gt.any(axis=(1, 2)) & ~gen.any(axis=(1, 2))
    left = np.maximum.accumulate(_at_edge(gen) & ~_at_edge(gt))
    return int(np.count_nonzero(missing & ~left)) >= _MISSING


def _at_edge(track: Bool[np.ndarray, "t h w"]) -> Bool[np.ndarray, " t"]:
    sides = (track[:, 0], track[:, -1], track[:, :, 0], track[:, :, -1])
    return np.asarray(np.any([side.any(axis=1) for side in sides], axis=0))


def _deformed(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> bool:
    """Area over the true area, or aspect over the true aspect, off in a third of the frames."""
    area = np.log(gen.sum(axis=(1, 2)) / gt.sum(axis=(1, 2)))
    aspect = np.log(_aspects(gen) / _aspects(gt))
    return bool(np.mean(np.maximum(np.abs(area), np.abs(aspect)) > _DEFORMED) >= 1 / 3)


def _aspects(track: Bool[np.ndarray, "t h w"]) -> np.ndarray:
    """Height over width of the box around each mask."""
    sides = np.array([np.ptp(np.argwhere(mask), axis=0) + 1 for mask in track])
    return sides[:, 0] / sides[:, 1]


def _new_piece(gen: Bool[np.ndarray, "t h w"], gt: Bool[np.ndarray, "t h w"]) -> bool:
    more = [_num_pieces(a) > max(1, _num_pieces(b)) for a, b in zip(gen, gt, strict=True)]
    return sum(more) >= _MISSING


def _num_pieces(mask: Bool[np.ndarray, "h w"]) -> int:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels.reshape(-1))[1:]
    return int(np.count_nonzero(areas >= _PIECE * areas.max())) if count else 0


def _jumps(centre: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Per step: farther than any fall of the benchmark moves in one frame."""
    step = np.linalg.norm(np.diff(centre, axis=0), axis=1)
    return np.nan_to_num(step) > _JUMP * float(np.hypot(size[0], size[1]))
