"""One clip pair, one protocol: the front door of the metrics."""

from __future__ import annotations

from typing import Any

from pisa.errors import PisaError
from pisa.metrics.alignment import Protocol, align
from pisa.metrics.official import OFFICIAL
from pisa.metrics.paper import PAPER
from pisa.metrics.strict import STRICT
from pisa.ops.masks import AnnotatedPoints, Masks

PROTOCOLS = {protocol.name: protocol for protocol in (OFFICIAL, PAPER, STRICT)}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ``PisaError`` that lists the valid names."""
    if name not in PROTOCOLS:
        raise PisaError(f"there is no protocol {name!r}; choose one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def evaluate_pair(
    gt_masks: Masks,
    gen_masks: Masks,
    gt_fps: float,
    gen_fps: float,
    *,
    protocol: str = "official",
    points: AnnotatedPoints | None = None,
) -> dict[str, Any]:
    """Score a generated clip's masks against the ground truth's.

    Masks are ``[T, H, W]`` or ``[T, N, H, W]``, NumPy or torch; frame rates in Hz; ``points`` is
    the list of that name in a real clip's ``clip_info.json``. The dropping object is the annotated
    one with the smallest positive-point y, or the last.

    Returns, under every protocol:

    * ``l2`` and ``chamfer`` (lower is better, in image diagonals), ``iou`` (higher is better);
    * ``miss_rate``: share of the frames with the object in the ground truth in which it is missing;
      uncovered frames count as such. ``spurious_rate``: share of the compared frames without it in
      which it appears (0 if there are none). ``split_rate``: share of the compared frames with more
      pieces than the ground truth;
    * ``coverage``: fraction of the true clip's time that is compared; ``area_ratio``: largest
      generated area over the largest true area in the compared frames;
    * ``num_frames_gt``, ``num_frames_gen``, ``num_frames_compared`` and ``num_frames_uncovered``
      (frames that the clip owes for the truth's duration, up to 2 s, and lacks);
    * ``per_frame``: ``l2``, ``chamfer``, ``iou``, ``gt_index`` of shape ``[K]`` and
      ``gt_centroid_px``, ``gen_centroid_px`` (x, y) of shape ``[K, 2]``.

    Raises ``MaskError`` (a ``PisaError`` and a ``ValueError``) for what can't be scored.
    """
    chosen = find_protocol(protocol)
    return chosen.score(align(gt_masks, gen_masks, gt_fps, gen_fps, points, chosen))
