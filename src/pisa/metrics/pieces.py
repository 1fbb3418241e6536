"""Connected pieces of a mask, and masks that come in more pieces than the truth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from pisa.ops.masks import bounding_box

_MIN_PIECE = 0.1  # of a largest piece's area
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def extra_pieces(
    gt: Bool[np.ndarray, "h w"], gen: Bool[np.ndarray, "h w"]
) -> list[Bool[np.ndarray, "h w"]]:
    """The generated mask's large pieces if it has more of them than a visible truth, else none.

    Large means at least a tenth of the mask's or of the truth's largest piece (the smaller of the
    two: an object that grows must not make the rest too small to count). None are returned where
    each large piece overlaps a piece of the truth, of any size, that no other large piece needs: a
    truth of one large and two tiny pieces may grow as a whole.
    """
    box = bounding_box(gen)
    if box is None or not gt.any():
        return []
    labels, areas = connected_pieces(gen[box])
    if len(areas) == 1:
        return []
    gt_labels, gt_areas = connected_pieces(gt)
    large = np.flatnonzero(areas >= _MIN_PIECE * min(gt_areas.max(), areas.max())) + 1
    if len(large) <= np.count_nonzero(gt_areas >= _MIN_PIECE * gt_areas.max()):
        return []
    pieces = np.zeros((len(large), *gen.shape), dtype=bool)
    pieces[:, *box] = labels == large[:, None, None]
    return [] if _each_has_its_own(list(pieces), gt_labels) else list(pieces)


def _each_has_its_own(
    pieces: list[Bool[np.ndarray, "h w"]], gt_labels: Int[np.ndarray, "h w"]
) -> bool:
    # Importing these takes as long as a tenth of torch, and most masks never come here.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    num_labels = int(gt_labels.max()) + 1
    overlaps = [np.bincount(gt_labels[piece], minlength=num_labels)[1:] > 0 for piece in pieces]
    matching = maximum_bipartite_matching(csr_array(np.array(overlaps)), perm_type="column")
    return bool((matching >= 0).all())


def connected_pieces(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, "h w"], Int[np.ndarray, " pieces"]]:
    """Numbers of the 8-connected components, from 1, and their areas in px."""
    from scipy import ndimage  # half a second, of importing pisa.metrics

    labels, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    return labels, np.bincount(labels.reshape(-1))[1:]
