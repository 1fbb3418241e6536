"""Which attack each measure of ``pisa.metrics.beyond`` catches: a table of attacks and measures.

Attacks on the masks (``attacks.py``) leave the pixels as they were, so that only the measures of
the masks respond to them; where the mask is what lies (another object, a lost tracker), all do. The
attacks here change the pixels. ``shadow`` is no fault but a control: nothing should respond.

An attack is caught in a clip where the measure is worse than in 95 % of the untouched clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from pisa.metrics.beyond import (
    MEASURES,
    PIXEL_MEASURES,
    VIDEO_PAIR_MEASURES,
    object_measures,
    pixel_measures,
)
from pisa.metrics.readout import read_out
from pisa.ops.masks import MaskError, bounding_box
from pisa.ops.video import to_frames
from pisa.reports.names import direction
from pisa.types import Clip, collate
from tests.red_team.attacks import ATTACKS, EXTRA_ATTACKS, LOST_TRACKER, Track, shift

Frames = UInt8[np.ndarray, "t h w 3"]
VideoAttack = Callable[[Frames, Track, float], tuple[np.ndarray, Track]]
# no clip has two falls, there is one video of each, and no reward
NOT_MEASURED = ("galileo", *VIDEO_PAIR_MEASURES, "reward")
MEASURED = tuple(name for name in MEASURES if name not in NOT_MEASURED)
LYING_MASKS = ("swap", *LOST_TRACKER)
_LEVEL = 0.05  # share of untouched clips that a limit leaves outside


def recolour(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """The object turns towards its colours with the channels exchanged."""
    return _blended(frames, track, np.roll(frames, 1, axis=3), strength), track


def smooth(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """The object's texture fades into its mean colour."""
    pairs = zip(frames, track, strict=True)
    mean = np.stack([f[m].mean(axis=0) if m.any() else f[0, 0] for f, m in pairs])
    return _blended(frames, track, mean[:, None, None], strength), track


def dissolve(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """The object becomes transparent: what lies behind it is seen, where the tracker still is."""
    hidden = np.where(track[..., None], np.nan, frames)
    with np.errstate(invalid="ignore"):
        seen = ~np.isnan(hidden).all(axis=0)
        behind = np.nanmedian(np.where(seen, hidden, frames), axis=0)
    return _blended(frames, track, behind, strength), track


def pan(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """The camera turns: the picture moves aside, by a quarter of its width at strength 1."""
    far = np.round(strength * frames.shape[2] / 4 * np.linspace(0, 1, len(frames))).astype(int)
    columns = np.arange(frames.shape[2])
    moved = [f[:, np.clip(columns - d, 0, None)] for f, d in zip(frames, far, strict=True)]
    return np.stack(moved), np.stack([shift(m, int(d), 0) for m, d in zip(track, far, strict=True)])


def repaint(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """All but the object turns into its mirror image."""
    return _blended(frames, ~track, frames[:, :, ::-1], strength), track


def dim(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """The light goes down to a half."""
    return _blended(frames, np.ones_like(track), frames // 2, strength), track


def shadow(frames: Frames, track: Track, strength: float) -> tuple[np.ndarray, Track]:
    """A shadow as wide as the object and half as high follows it beside its path."""
    shaded = np.zeros_like(track)
    for t, mask in enumerate(track):
        box = bounding_box(mask)
        if box is not None:
            high, wide = (max(2, (s.stop - s.start) // k) for s, k in zip(box, (2, 1), strict=True))
            left = box[1].stop + 4 if box[1].stop + 4 + wide < mask.shape[1] else 0
            shaded[t, box[0].stop - high : box[0].stop, left : left + wide] = True
    return _blended(frames, shaded & ~track, frames // 2, strength), track


VIDEO_ATTACKS: dict[str, VideoAttack] = {
    f.__name__: f for f in (recolour, smooth, dissolve, pan, repaint, dim, shadow)
}


def _blended(frames: Frames, where: Track, other: np.ndarray, strength: float) -> np.ndarray:
    """Frames after frame 0, blended towards ``other`` in the pixels of ``where``."""
    share = strength * where[..., None]
    share[0] = 0
    return np.asarray(np.round((1 - share) * frames + share * other), dtype=np.uint8)


def measured(frames: Frames, track: Track, clip: Clip) -> dict[str, float]:
    """``MEASURED`` of a video of the clip; gravity where the scale is known."""
    others = clip.masks[:-1, 0].any(dim=0).numpy()
    found = object_measures(track) | pixel_measures(frames, track, others)
    scale = float(collate([clip]).px_per_m[0])  # type: ignore[index]
    return found | {"g_m_s2": read_out(track, clip.fps_hz, scale).g_m_s2}


def responses(clips: Sequence[Clip]) -> dict[str, list[dict[str, float]]]:
    """By attack, at strength 1, the measures of each clip that it applies to."""
    found: dict[str, list[dict[str, float]]] = {"untouched": []}
    for clip in clips:
        frames, masks = to_frames(clip.video), clip.masks.numpy().swapaxes(0, 1)
        track = masks[:, -1]
        found["untouched"].append(measured(frames, track, clip))
        for name, change in VIDEO_ATTACKS.items():
            found.setdefault(name, []).append(measured(*change(frames, track, 1.0), clip))
        for name, attack in (ATTACKS | EXTRA_ATTACKS | LOST_TRACKER).items():
            try:
                wrong = attack(masks, 1.0)
            except MaskError:
                continue
            values = measured(frames[: len(wrong)], wrong, clip)
            if name not in LYING_MASKS:
                values = {k: v for k, v in values.items() if k not in PIXEL_MEASURES}
            found.setdefault(name, []).append(values)
    return found


def caught(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Share of clips that each measure catches an attack in; absent where it does not apply."""
    table: dict[str, dict[str, float]] = {attack: {} for attack in found}
    for measure in MEASURED:
        low, high = _limits(np.array([values[measure] for values in found["untouched"]]), measure)
        for attack, rows in found.items():
            values = np.array([row[measure] for row in rows if measure in row])
            if len(values):
                outside = (values < low) | (values > high)
                table[attack][measure] = float(outside.mean())
    return table


def _limits(untouched: Float[np.ndarray, " n"], measure: str) -> tuple[float, float]:
    """The range of the untouched clips without ``_LEVEL`` on the worse side, or on both sides."""
    if np.isnan(untouched).all():
        return -np.inf, np.inf
    sign = direction(measure)
    below = {1: _LEVEL, 0: _LEVEL / 2, -1: 0.0}[sign]
    above = {-1: _LEVEL, 0: _LEVEL / 2, 1: 0.0}[sign]
    low, high = np.nanquantile(untouched, [below, 1 - above])
    return (float(low) if below else -np.inf), (float(high) if above else np.inf)


def measure_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: percent of the clips in which each measure catches each attack."""
    lines = ["| attack | " + " | ".join(MEASURED) + " |", "|---" * (len(MEASURED) + 1) + "|"]
    for attack, shares in caught(found).items():
        texts = [f"{100 * shares[m]:.0f}" if m in shares else "" for m in MEASURED]
        cells = [f"**{x}**" if x and float(x) >= 50 else x for x in texts]
        lines.append(f"| {attack} | {' | '.join(cells)} |")
    return "\n".join(lines)
