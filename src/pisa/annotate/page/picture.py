"""The picture in the middle, its mouse, the time line under it, and their overlays as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

import numpy as np
from jaxtyping import Bool
from nicegui import events, ui
from PIL import Image
from scipy.ndimage import binary_erosion

from pisa.annotate.check_pictures import COLOURS, colour_of
from pisa.annotate.clip_folder import clip_side_px
from pisa.annotate.motion import Crop, Release
from pisa.annotate.page.view import View
from pisa.annotate.recording import FPS_HZ, PREVIEW_PX, fitting
from pisa.annotate.session import Mode
from pisa.annotate.store import ClipDraft
from pisa.annotate.tracking import to_clip_px

BELOW_PX = 170  # height of what is under the picture, its margins included
GRAB = 0.03  # of the picture's width: how near a handle is taken
BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


class Picture:
    """The frame with crop, points and preview masks over it; takes the mouse."""

    def __init__(self, page: View) -> None:
        self.page = page
        self._drag: tuple[str, float, float] | None = None  # handle, where it was taken
        self._previewed: object = None
        with ui.element("div").classes("stage"):
            self.image = ui.interactive_image(
                BLANK,
                on_mouse=self._mouse,
                events=["mousedown", "mousemove", "mouseup", "contextmenu"],
                sanitize=False,
            )
            self.image.on("contextmenu.prevent", lambda: None)
        self.status = ui.label().classes("status")
        self.line = ui.interactive_image(
            size=TIMELINE, on_mouse=self._seek, events=["mousedown", "mousemove"], sanitize=False
        ).classes("timeline")
        self.head = self.line.add_layer()  # of its own: it moves with every frame

    def draw(self) -> None:
        session = self.page.session
        if session.recording is None:
            self.image.set_source(BLANK)
            self.image.set_content("")
            self.line.set_content("")
            self.head.set_content("")
            self.status.set_text("")
            return
        if self._shows_clip:
            self._draw_clip()
        else:
            self._draw_recording()
        name = session.recording.path.name
        self.line.set_content(
            timeline_svg(
                self.page.workspace.signal(name),
                self.page.workspace.releases(name),
                session.clips,
                session.key,
            )
        )
        self.head.set_content(playhead_svg(session.frame, session.recording.num_frames))
        self.status.set_text(self._status())

    @property
    def _shows_clip(self) -> bool:
        session = self.page.session
        return (
            session.mode in (Mode.POINTS, Mode.CHECK)
            and session.clip is not None
            and self.page.workspace.has_frames(session.clip)
        )

    @property
    def _scale(self) -> float:
        """Pixels of the picture on show per pixel of the recording."""
        session = self.page.session
        if self._shows_clip and session.clip is not None:
            return self._side / session.clip.crop.side
        size = session.need_recording().size
        return fitting(size, PREVIEW_PX)[1] / size[1]

    @property
    def _side(self) -> int:
        return clip_side_px(self.page.session.need_clip().crop, self.page.workspace.size_px)

    def _draw_recording(self) -> None:
        session = self.page.session
        recording = session.need_recording()
        source = f"/frame/{quote(recording.path.name)}/{session.frame}.jpg?{recording.slowdown}"
        self._fit(recording.size[1] / recording.size[0])
        self.image.set_source(source)
        crop = session.crop
        content = ""
        if crop is not None:
            content = crop_svg(crop, self._scale, recording.size, session.mode is Mode.CROP)
        self.image.set_content(content)

    def _draw_clip(self) -> None:
        session, workspace = self.page.session, self.page.workspace
        clip = session.need_clip()
        at = session.frame - clip.start
        self._fit(1.0)
        self.image.set_source(f"/clip/{workspace.frames(clip).name}/{at}.jpg")
        here = (clip, at)
        if self.page.masks is not None and self._previewed not in (None, here):
            self.page.masks, self._previewed = None, None
        elif self.page.masks is not None:
            self._previewed = here
        masks = self.page.masks
        if masks is None:
            tracked = workspace.masks(clip)
            masks = tracked[at] if tracked is not None and at < len(tracked) else None
        content = "" if masks is None else _masks_svg(masks, self._side)
        if session.mode is Mode.POINTS:
            content += points_svg(clip, at, session.object, self._side)
        if self.page.cursor is not None:
            content += cursor_svg(*to_clip_px(*self.page.cursor, clip.crop, self._side), self._side)
        self.image.set_content(content)

    def _fit(self, aspect: float) -> None:
        """As large as the window allows; ``aspect`` is width / height."""
        self.image.style(f"width: min(100%, calc((100vh - {BELOW_PX}px) * {aspect:.4f}))")

    def _status(self) -> str:
        session = self.page.session
        recording = session.need_recording()
        text = f"frame {session.frame} of {recording.num_frames} · {session.frame / FPS_HZ:.3f} s"
        if session.clip is not None:
            text += f" · {session.clip.name}: frame {session.frame - session.clip.start}"
            text += f" of {session.clip.num_frames} ({session.clip.num_frames / FPS_HZ:.2f} s)"
        return text

    def _mouse(self, event: events.MouseEventArguments) -> None:
        session = self.page.session
        if session.recording is None:
            return
        if session.mode is Mode.CROP and session.crop is not None:
            self._mouse_crop(event, event.image_x / self._scale, event.image_y / self._scale)
        elif session.mode is Mode.POINTS and event.type == "mousedown" and self._shows_clip:
            crop = session.need_clip().crop
            x = (event.image_x + 0.5) / self._scale - 0.5 + crop.left
            y = (event.image_y + 0.5) / self._scale - 0.5 + crop.top
            self.page.do(session.click, x, y, event.button == 0 and not event.shift)

    def _mouse_crop(self, event: events.MouseEventArguments, x: float, y: float) -> None:
        session = self.page.session
        size, crop = session.need_recording().size, session.crop
        assert crop is not None
        if event.type == "mousedown":
            near = [
                (max(abs(x - cx), abs(y - cy)), name)
                for name in HANDLES
                for cx, cy in [corner(crop, name)]
            ]
            handle = min(near)[1] if min(near)[0] < GRAB * size[1] else ""
            self._drag = (handle, x - crop.left, y - crop.top)
        elif self._drag is not None and event.type == "mousemove" and event.buttons:
            handle, off_x, off_y = self._drag
            if handle:
                session.draft_crop = crop.dragged(handle, x, y, size)
            else:
                session.draft_crop = crop.moved(x - off_x - crop.left, y - off_y - crop.top, size)
            self._draw_recording()
        elif self._drag is not None:  # released, here or outside of the picture
            self._drag = None
            if session.draft_crop is not None:
                self.page.do(session.set_crop, session.draft_crop)

    def _seek(self, event: events.MouseEventArguments) -> None:
        recording = self.page.session.recording
        if recording is not None and event.buttons:
            self.page.seek(int(event.image_x / TIMELINE[0] * recording.num_frames))


def _masks_svg(masks: Bool[np.ndarray, "n i j"], side: int) -> str:
    """All masks as one translucent picture over the frame, their edges opaque."""
    scale = max(1, 256 // masks.shape[-1])
    masks = masks.repeat(scale, axis=1).repeat(scale, axis=2)
    rgba = np.zeros((*masks.shape[1:], 4), dtype=np.uint8)
    for index, mask in enumerate(masks):
        rgba[mask] = (*colour_of(index), 90)
        rgba[mask & ~binary_erosion(mask, iterations=2)] = (*colour_of(index), 255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<image href="data:image/png;base64,{data}" width="{side}" height="{side}" '
        'preserveAspectRatio="none"/>'
    )


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
