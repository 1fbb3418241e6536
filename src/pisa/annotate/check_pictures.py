"""A picture for each check, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.annotate.checks import (
    AREA_RATIO,
    CAMERA_PX,
    GAP_MS,
    Check,
    Evidence,
    background_shift_px,
    fit_fall,
)
from pisa.annotate.motion import leaves, still_level
from pisa.annotate.recording import FPS_HZ

COLOURS = ("#00c2ff", "#ff2e93", "#b4e600", "#ffb000", "#8a5cff", "#00d9a3")
BLUE, RED = "#1d4e89", "#e4572e"
_BEFORE = 60  # frames of motion shown before the start


def picture(check: Check, evidence: Evidence) -> bytes:
    """PNG, 400 x 200 px."""
    figure = Figure(figsize=(4, 2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(labelsize=7)
    _DRAW[check.name](axes, evidence)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def overlay(
    frame: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "n h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Objects tinted in their colours."""
    shown = frame.astype(np.float64)
    for index, mask in enumerate(masks):
        shown[mask] = 0.45 * shown[mask] + 0.55 * np.array(colour_of(index))
    return shown.astype(np.uint8)


def colour_of(index: int) -> tuple[int, int, int]:
    text = COLOURS[index % len(COLOURS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _camera(axes: Axes, evidence: Evidence) -> None:
    shift = background_shift_px(evidence.frames, evidence.masks) * 256 / evidence.frames.shape[2]
    axes.plot(shift[:, 0], label="x", color=BLUE)
    axes.plot(shift[:, 1], label="y", color=RED)
    for limit in (-CAMERA_PX, CAMERA_PX):
        axes.axhline(limit, color="grey", lw=0.7, ls=":")
    _label(axes, "frame", "shift, px of 256")
    axes.legend(fontsize=7, frameon=False)


def _rest(axes: Axes, evidence: Evidence) -> None:
    first = max(0, evidence.start - _BEFORE)
    stop = min(len(evidence.signal), evidence.start + _BEFORE)
    axes.plot(np.arange(first, stop) - evidence.start, evidence.signal[first:stop], color="black")
    axes.axhline(still_level(evidence.signal), color="grey", lw=0.7, ls=":")
    axes.axvline(0, color=RED)
    _label(axes, "frame (0: start of the clip)", "motion, grey levels")


def _rate(axes: Axes, evidence: Evidence) -> None:
    axes.plot(evidence.intervals_ms, ".", ms=3, color=BLUE)
    axes.axhline(GAP_MS, color="grey", lw=0.7, ls=":")
    axes.axhline(1000 / FPS_HZ, color="grey", lw=0.7)
    axes.set_ylim(0, max(20.0, 1.1 * float(evidence.intervals_ms.max(initial=0))))
    _label(axes, "frame of the file", "time to the next, ms")


def _visible(axes: Axes, evidence: Evidence) -> None:
    bad = leaves(evidence.track)
    last = len(evidence.track) - 1
    chosen = [0, bad[0] if bad else last // 2, last]
    shown = [overlay(evidence.frames[t], evidence.masks[t]) for t in chosen]
    gap = np.full((shown[0].shape[0], 2, 3), 255, dtype=np.uint8)
    axes.imshow(np.concatenate([shown[0], gap, shown[1], gap, shown[2]], axis=1))
    axes.set_axis_off()
    axes.set_title("   ".join(f"frame {t}" for t in chosen), fontsize=7)


def _areas(axes: Axes, evidence: Evidence) -> None:
    areas = np.count_nonzero(evidence.masks, axis=(2, 3))
    for index, area in enumerate(areas.T):
        colour = tuple(value / 255 for value in colour_of(index))
        axes.plot(area / max(1, area[0]), label=f"{index + 1}", color=colour)
    for limit in (1 / AREA_RATIO, AREA_RATIO):
        axes.axhline(limit, color="grey", lw=0.7, ls=":")
    axes.set_yscale("log")
    _label(axes, "frame", "area / first area")
    axes.legend(fontsize=7, frameon=False, title="object", title_fontsize=7)


def _fall(axes: Axes, evidence: Evidence) -> None:
    fall = fit_fall(evidence.track)
    axes.plot(fall.y_px, ".", ms=3, color="black")
    stop = fall.impact or len(fall.y_px)
    t = np.arange(stop, dtype=float)
    axes.plot(t, fall.curve(t), color=RED)
    axes.invert_yaxis()
    _label(axes, "frame", "height of the centroid, px")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=7)
    axes.set_ylabel(y, fontsize=7)


_DRAW: dict[str, Callable[..., None]] = {
    "camera still": _camera,
    "at rest in frame 0": _rest,
    "120 fps": _rate,
    "visible throughout": _visible,
    "same object": _areas,
    "acceleration": _fall,
}
