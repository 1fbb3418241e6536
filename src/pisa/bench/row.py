"""One row of metrics.json: the scores of one video against one clip, whatever the protocol."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Bool

from pisa.errors import PisaError
from pisa.metrics.alignment import DURATION_S

METRICS = ("l2", "chamfer", "iou", "time_error", "miss_rate")  # averaged, in the order of tables
MIN_COVERAGE = 0.5  # a pair that compares less of the true clip is partial
MAX_RATE_RATIO = 100.0  # real clips have up to 240 Hz, models at least 7 Hz
_RESULTS = (
    "l2", "chamfer", "iou", "miss_rate", "spurious_rate", "split_rate", "coverage", "area_ratio",
    "num_frames_gt", "num_frames_gen", "num_frames_compared", "num_frames_uncovered",
)  # fmt: skip


@dataclass(frozen=True)
class ScoreRow:
    """The columns of ``evaluate_pair`` (NaN: undefined) and what they belong to.

    A column that is None is unknown and absent from metrics.json.
    """

    model: str  # or a reference: truth, frozen, codec
    split: str
    clip: str
    seed: int
    l2: float
    chamfer: float
    iou: float
    miss_rate: float
    spurious_rate: float
    split_rate: float
    coverage: float  # fraction of the true clip's time that was compared
    area_ratio: float  # largest tracked area over the largest true one
    num_frames_gt: int
    num_frames_gen: int
    num_frames_compared: int
    num_frames_uncovered: int
    truth_sha256: str  # of the true masks and their rate; equal where two rows may be paired
    time_error: float | None = None  # s; None without a known drop height
    first_frame_difference: float | None = None  # of 255, see ``first_frame.difference``
    frame_shift: int | None = None  # 1: the video lacks the first frame; -1: it shows it twice
    partial: bool | None = None  # True: too little was compared for a mean (``is_partial``)
    num_objects: int | None = None  # in the clip's first frame
    colour_change: float | None = None  # these twelve: see ``pisa.metrics.beyond``
    texture_change: float | None = None
    background_change: float | None = None
    brightness_change: float | None = None
    high_frequency_change: float | None = None
    area_kept: float | None = None
    piece_share: float | None = None
    path_length: float | None = None
    g_m_s2: float | None = None  # None without a known camera and depth
    galileo: float | None = None  # None unless two objects fall in the true clip
    stage_change: float | None = None  # None without a model before
    diversity: float | None = None  # None unless asked for
    reward: float | None = None  # of the video, see evaluation.reward; None unless asked for
    groups: Mapping[str, Any] = field(default_factory=dict)  # further columns (scene, depth_m ...)

    def as_dict(self) -> dict[str, Any]:
        """The row of metrics.json; numbers that are not finite stay what they are."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "groups"}
        return {k: v for k, v in own.items() if v is not None} | dict(self.groups)


def row_of(
    result: Mapping[str, Any],
    truth: Bool[np.ndarray, "t h w"],
    gt_fps_hz: float,
    protocol: str,
    **columns: Any,
) -> ScoreRow:
    """The row of a result of ``evaluate_pair`` for the true masks of the dropping object."""
    kept = {name: result[name] for name in _RESULTS}
    if protocol != "strict" and is_partial(kept, gt_fps_hz):
        columns["partial"] = True
    return ScoreRow(**kept, truth_sha256=truth_sha256(truth, gt_fps_hz), **columns)


def check_rates(gt_fps_hz: float, gen_fps_hz: float) -> None:
    """Raises ``PisaError`` for a true and a generated rate too far apart to be frame rates."""
    for fps_hz in (gt_fps_hz, gen_fps_hz):
        if not (math.isfinite(fps_hz) and fps_hz > 0):
            raise PisaError(f"a frame rate must be a positive number of Hz, not {fps_hz}")
    if not 1 / MAX_RATE_RATIO <= gt_fps_hz / gen_fps_hz <= MAX_RATE_RATIO:
        raise PisaError(
            f"frame rates of {gt_fps_hz:g} Hz (truth) and {gen_fps_hz:g} Hz (generated) differ by "
            f"more than a factor of {MAX_RATE_RATIO:g}; one of them is wrong"
        )


def is_partial(result: Mapping[str, Any], gt_fps_hz: float) -> bool:
    """Whether less than ``MIN_COVERAGE`` of the truth was compared, and less than ``DURATION_S``.

    Models of the paper make 2 s, which is less than half of some real clips. ``strict`` counts the
    frames that are missing, so that its scores need no such mark.
    """
    coverage = result["coverage"]
    compared_s = coverage * result["num_frames_gt"] / gt_fps_hz
    return bool(coverage < MIN_COVERAGE and compared_s < DURATION_S)


def truth_sha256(truth: Bool[np.ndarray, "t h w"], fps_hz: float) -> str:
    """The first 16 digits; frame count, size, rate and pixels decide."""
    digest = hashlib.sha256(f"{truth.shape} {fps_hz:g}".encode())
    digest.update(np.packbits(truth).tobytes())
    return digest.hexdigest()[:16]


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Why the scores of two metrics.json must not share a column or be paired; None if they may.

    What a document of an earlier version does not record is not compared.
    """
    if a["protocol"] != b["protocol"]:
        return f"they follow different protocols: {a['protocol']} and {b['protocol']}"
    trackers = [document["provenance"].get("tracker") for document in (a, b)]
    if None not in trackers and trackers[0] != trackers[1]:
        return "their masks come from different trackers"
    truths = [_truths(document) for document in (a, b)]
    shared = truths[0].keys() & truths[1].keys()
    for split, clip in sorted(shared):
        (frames_a, sha_a), (frames_b, sha_b) = (own[split, clip] for own in truths)
        if frames_a != frames_b:
            return (
                f"{split} clips are scored on different frames: {frames_a} and {frames_b} of "
                f"clip {clip}"
            )
        if None not in (sha_a, sha_b) and sha_a != sha_b:
            return f"{split} is not the same data set: the true masks of clip {clip} differ"
    return None


def _truths(document: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Number of true frames and their hash by split and clip, of rows that record them."""
    return {
        (row["split"], row["clip"]): (row["num_frames_gt"], row.get("truth_sha256"))
        for row in document["per_clip"]
        if row.get("num_frames_gt") is not None
    }
