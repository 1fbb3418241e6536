"""Precision and recall of the failure labels on attacked true clips, and coverage of fitted g.

Which labels an attack must earn is stated here once (``MUST``), and which it may (``MAY``: it shows
some of that failure, so neither answer counts). Every other label on an attacked or untouched clip
is a false one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pisa.metrics.failures import LABELS, failure_labels
from pisa.metrics.readout import px_per_metre, read_out
from pisa.ops.masks import MaskError
from pisa.types import GRAVITY_M_S2, Clip
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS

STRENGTHS = (0.5, 1.0)
UNTOUCHED = "untouched"
MUST: Mapping[tuple[str, float], str] = {
    **{("vanish", s): "vanishes" for s in STRENGTHS},
    **{("flicker", s): "vanishes" for s in STRENGTHS},
    **{("duplicate", s): "new_object" for s in STRENGTHS},
    **{("teleport", s): "scene_cut" for s in STRENGTHS},
    **{("grow", s): "deforms" for s in STRENGTHS},  # twice to four times the area
    **{("deform", s): "deforms" for s in STRENGTHS},
    **{("time_warp", s): "too_slow" for s in STRENGTHS},
    **{("rise", s): "rises" for s in STRENGTHS},
    **{("slide", s): "horizontal" for s in STRENGTHS},
    ("hover", 0.5): "too_slow",  # falls at half the acceleration
    ("hover", 1.0): "hovers",
    ("freeze", 1.0): "hovers",  # never leaves its place
}
MAY: Mapping[str, frozenset[str]] = {
    "freeze": frozenset({"hovers", "too_slow"}),  # stops in mid-fall
    "late": frozenset({"hovers", "too_slow", "vanishes"}),  # it reaches the ground late or never
    "bridge": frozenset({"deforms", "new_object"}),
    "swap": frozenset({"scene_cut", "deforms", "vanishes"}),  # another object, perhaps hidden
}


@dataclass(frozen=True)
class Case:
    """One attacked (or untouched) clip and the labels it got."""

    clip: str
    attack: str
    strength: float
    labels: frozenset[str]

    def truth(self, label: str) -> bool | None:
        """Whether it should have the label; None: either is right."""
        if MUST.get((self.attack, self.strength)) == label:
            return True
        return None if label in MAY.get(self.attack, ()) else False


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval. ``cases`` are out of ``clips`` clips."""

    value: float
    low: float
    high: float
    cases: int
    clips: int


def attacked(clip: Clip) -> Iterator[Case]:
    """Every attack at both strengths. One that changes nothing is left out."""
    masks = clip.masks.numpy().swapaxes(0, 1)  # [t, n, h, w], the dropping object last
    truth = masks[:, -1]
    yield Case(clip.name, UNTOUCHED, 0.0, _labels(truth, truth, clip.fps_hz))
    for name, attack in {**ATTACKS, **EXTRA_ATTACKS}.items():
        for strength in STRENGTHS:
            try:
                track = attack(masks, strength)
            except MaskError:  # swap needs a second object
                continue
            if not np.array_equal(track, truth):
                yield Case(clip.name, name, strength, _labels(track, truth, clip.fps_hz))


def recall(cases: Iterable[Case], label: str) -> Rate:
    """Of the cases that must have the label, how many have it."""
    wanted = [case for case in cases if case.truth(label)]
    return _rate([(case.clip, label in case.labels) for case in wanted])


def precision(cases: Iterable[Case], label: str) -> Rate:
    """Of the cases that have the label, how many must have it."""
    given = [c for c in cases if label in c.labels and c.truth(label) is not None]
    return _rate([(case.clip, bool(case.truth(label))) for case in given])


def gravity_coverage(clips: Iterable[Clip]) -> tuple[Rate, list[float]]:
    """How often the interval of fitted g holds 9.81 m/s^2 on true clips, and the fitted values.

    Raises ``ValueError`` for a clip without depth.
    """
    hits: list[tuple[str, bool]] = []
    fitted: list[float] = []
    for clip in clips:
        if clip.camera is None or clip.poses is None:
            raise ValueError(f"{clip.name}: depth is not known")
        depth_m = float(clip.poses.position_m[0, -1, 1]) - clip.camera.position_m[1]
        scale = px_per_metre(clip.camera, depth_m)
        found = read_out(clip.masks[-1], clip.fps_hz, scale)
        low, high = found.g_m_s2_ci95
        hits.append((clip.name, low <= GRAVITY_M_S2 <= high))
        fitted.append(found.g_m_s2)
    return _rate(hits), fitted


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share of ``count`` independent draws."""
    if count == 0:
        return math.nan, math.nan
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def markdown(cases: Sequence[Case]) -> str:
    """A table with one row per label, with 95 % intervals over clips."""
    lines = ["| label | must have it | has it | precision | recall |", "|---|---|---|---|---|"]
    for label in LABELS:
        p, r = precision(cases, label), recall(cases, label)
        lines.append(f"| {label} | {r.cases} | {p.cases} | {_text(p)} | {_text(r)} |")
    return "\n".join(lines)


def _text(rate: Rate) -> str:
    return f"{rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}]"


def _labels(
    track: Bool[np.ndarray, "t h w"], truth: Bool[np.ndarray, "t h w"], fps_hz: float
) -> frozenset[str]:
    return frozenset(failure_labels(track, truth, fps_hz))


def _rate(outcomes: Sequence[tuple[str, bool]]) -> Rate:
    """The interval counts clips, not cases: cases of one clip are not independent."""
    clips = len({clip for clip, _ in outcomes})
    value = sum(good for _, good in outcomes) / len(outcomes) if outcomes else math.nan
    return Rate(value, *wilson(value, clips), len(outcomes), clips)
