"""One clip pair, one protocol: the front door of the metrics."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from typing import Any

from pisa.ops.masks import AnnotatedPoints, Masks
from pisa.types import PisaError


class Protocol(StrEnum):
    """How masks are scored; each member is the name of a module in this package."""

    OFFICIAL = "official"
    PAPER = "paper"
    STRICT = "strict"


def parse_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ``PisaError`` that lists the names there are."""
    try:
        return Protocol(name)
    except ValueError as error:
        names = ", ".join(Protocol)
        raise PisaError(f"there is no protocol '{name}'; choose one of: {names}") from error


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

    Returns ``l2`` and ``chamfer`` (lower is better, in image diagonals), ``iou`` (higher is
    better), ``num_frames_gt``, ``num_frames_gen``, ``num_frames_compared`` and ``per_frame``:
    ``l2``, ``chamfer``, ``iou``, ``gt_index`` of shape ``[K]`` and ``gt_centroid_px``,
    ``gen_centroid_px`` (x, y) of shape ``[K, 2]``. ``strict`` adds ``miss_rate``,
    ``spurious_rate``, ``split_rate`` and ``num_frames_uncovered``; its means hold the uncovered
    frames, ``per_frame`` doesn't. Raises ``MaskError`` (a ``PisaError`` and a ``ValueError``) for
    what can't be scored.
    """
    module = import_module(f"pisa.metrics.{parse_protocol(protocol).value}")
    return module.score(gt_masks, gen_masks, gt_fps, gen_fps, points)
