"""Drawings over the picture and along the time line, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from pisa.annotate.check_pictures import COLOURS
from pisa.annotate.crop import Crop
from pisa.annotate.motion import Release
from pisa.annotate.store import ClipDraft
from pisa.annotate.tracking import to_clip_px

HANDLES = ("nw", "ne", "sw", "se")
TIMELINE = (1000, 90)  # width, height of its drawing


def corner(crop: Crop, name: str) -> tuple[int, int]:
    """(x, y) of a corner in pixels of the recording."""
    return (
        crop.left + (crop.side if "e" in name else 0),
        crop.top + (crop.side if "s" in name else 0),
    )


def crop_svg(crop: Crop, scale: float, size: tuple[int, int], handles: bool) -> str:
    """The crop over a picture that shows ``size`` (height, width) at ``scale``."""
    x, y, side = crop.left * scale, crop.top * scale, crop.side * scale
    width, height = size[1] * scale, size[0] * scale
    shade = f"M0 0H{width}V{height}H0Z M{x} {y}V{y + side}H{x + side}V{y}Z"
    parts = [
        f'<path d="{shade}" fill="black" fill-opacity="0.5" fill-rule="evenodd"/>',
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="none" stroke="#ffc914" '
        f'stroke-width="{0.003 * width}"/>',
    ]
    if handles:
        radius = 0.009 * width
        for name in HANDLES:
            at_x, at_y = (value * scale for value in corner(crop, name))
            parts.append(
                f'<circle cx="{at_x}" cy="{at_y}" r="{radius}" fill="#ffc914" stroke="black"/>'
            )
    return "".join(parts)


def points_svg(clip: ClipDraft, frame: int, chosen: int, side: int) -> str:
    """The clicks of a frame: filled circles are positive, crosses negative (side: of the clip)."""
    radius = 0.011 * side
    parts = []
    for index, entry in enumerate(clip.objects):
        colour = COLOURS[index % len(COLOURS)]
        for click in entry.clicks:
            if click.frame != frame:
                continue
            x, y = to_clip_px(click.x, click.y, clip.crop, side)
            edge = "white" if index == chosen else "black"
            if click.positive:
                parts.append(
                    f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}" stroke="{edge}" '
                    f'stroke-width="{radius / 3}"/>'
                )
            else:
                arm = 1.2 * radius
                cross = f"M{x - arm} {y - arm}L{x + arm} {y + arm}M{x - arm} {y + arm}"
                cross += f"L{x + arm} {y - arm}"
                for stroke, width in ((edge, radius), (colour, radius / 2)):
                    parts.append(f'<path d="{cross}" stroke="{stroke}" stroke-width="{width}"/>')
    return "".join(parts)


def cursor_svg(x: float, y: float, side: int) -> str:
    """The keyboard's cross hair."""
    return (
        f'<path d="M{x} 0V{side}M0 {y}H{side}" stroke="white" stroke-width="{0.003 * side}"/>'
        f'<path d="M{x} 0V{side}M0 {y}H{side}" stroke="black" stroke-width="{0.001 * side}"/>'
    )


def timeline_svg(
    signal: Sequence[float] | np.ndarray,
    releases: Iterable[Release],
    clips: dict[str, ClipDraft],
    chosen: str | None,
) -> str:
    """Motion over the whole recording, suggested releases and marked clips."""
    width, height = TIMELINE
    count = max(1, len(signal))
    parts = [f'<rect width="{width}" height="{height}" fill="#f4f4f5"/>']
    for key, clip in clips.items():
        x, wide = clip.start / count * width, clip.num_frames / count * width
        opacity = 0.75 if key == chosen else 0.35
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{wide:.1f}" height="{height}" fill="#8ecae6" '
            f'fill-opacity="{opacity}"/>'
            f'<text x="{x + 4:.1f}" y="14" font-size="13" fill="#14213d">{escape(clip.name)}</text>'
        )
    parts.append(f'<path d="{_curve(signal)}" fill="#3a3a3c" fill-opacity="0.8"/>')
    for release in releases:
        x = release.start / count * width
        parts.append(
            f'<path d="M{x - 6:.1f} {height}L{x + 6:.1f} {height}L{x:.1f} {height - 14}Z" '
            'fill="#2e7d32"/>'
        )
    return "".join(parts)


def playhead_svg(frame: int, count: int) -> str:
    """The frame on show, over the time line."""
    x = frame / max(1, count) * TIMELINE[0]
    return f'<path d="M{x:.1f} 0V{TIMELINE[1]}" stroke="#e4572e" stroke-width="2.5"/>'


def _curve(signal: Sequence[float] | np.ndarray) -> str:
    """The largest motion in each of some 500 spans, square root scaled, as a filled area."""
    width, height = TIMELINE
    values = np.asarray(signal, dtype=float)
    if not len(values):
        return ""
    first = np.unique(np.linspace(0, len(values), min(500, len(values)), endpoint=False, dtype=int))
    peaks = np.sqrt(np.maximum.reduceat(values, first))
    peaks = peaks / max(peaks.max(), 1e-9) * (height - 24)
    x = first / len(values) * width
    body = "".join(f"L{at:.1f} {height - p:.1f}" for at, p in zip(x, peaks, strict=True))
    return f"M0 {height}{body}L{width} {height}Z"
