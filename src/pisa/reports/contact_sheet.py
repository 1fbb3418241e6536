"""Pictures of clips: contact sheet, stroboscopic composite, and truths painted over the video."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from pisa.io.files import write_atomic
from pisa.ops.video import to_frames
from pisa.reports.names import model_label, order_models
from pisa.types import Clip

_FONT_PX = 13
_GAP_PX = 4
_PAPER, _INK = (255, 255, 255), (29, 35, 41)


def contact_sheet(
    videos: Mapping[str, UInt8[np.ndarray, "t h w 3"]], every: int = 2, scale: int = 2
) -> UInt8[np.ndarray, "i j 3"]:
    """Rows are models, columns every ``every``-th frame, enlarged ``scale`` times; labelled.

    Videos may differ in length (missing frames stay blank) but not in frame size: ``ValueError``.
    """
    sizes = {video.shape[1:] for video in videos.values()}
    if len(sizes) != 1:
        raise ValueError(f"a contact sheet needs videos of one frame size, got {sorted(sizes)}")
    height, width = (scale * side for side in sizes.pop()[:2])
    shown = range(0, max(len(video) for video in videos.values()), every)
    font = ImageFont.load_default(size=_FONT_PX)
    names = order_models(videos)
    left = 2 * _GAP_PX + round(max(font.getlength(model_label(name)) for name in names))
    top = _FONT_PX + 2 * _GAP_PX
    size = (left + len(shown) * (width + _GAP_PX), top + len(names) * (height + _GAP_PX))
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, frame in enumerate(shown):
        x = left + column * (width + _GAP_PX)
        pen.text((x, _GAP_PX), f"frame {frame}" if column == 0 else str(frame), _INK, font)
    for row, name in enumerate(names):
        y = top + row * (height + _GAP_PX)
        pen.text((_GAP_PX, y + (height - _FONT_PX) // 2), model_label(name), _INK, font)
        for column, frame in enumerate(shown):
            if frame < len(videos[name]):
                picture = Image.fromarray(np.ascontiguousarray(videos[name][frame]))
                enlarged = picture.resize((width, height), Image.Resampling.NEAREST)
                sheet.paste(enlarged, (left + column * (width + _GAP_PX), y))
    return np.asarray(sheet)


def stroboscopic(
    frames: UInt8[np.ndarray, "t h w 3"], masks: Bool[np.ndarray, "t h w"], every: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
    """The object of every ``every``-th frame over one background (the paper's Figure 1).

    Background pixels are the median over the frames in which the object does not cover them (the
    first frame where it always does); earlier positions are fainter, the last frame is opaque.

    Raises ``ValueError`` where frames and masks differ in length or size.
    """
    if frames.shape[:3] != masks.shape:
        raise ValueError(f"frames {frames.shape} and masks {masks.shape} do not belong together")
    image = _background(frames, masks)
    chosen = sorted({*range(0, len(frames), every), len(frames) - 1})
    for opacity, t in zip(np.linspace(0.45, 1.0, len(chosen)), chosen, strict=True):
        over = opacity * frames[t] + (1 - opacity) * image
        image = np.where(masks[t][..., None], over, image)
    return np.round(image).astype(np.uint8)


def save_png(path: Path | str, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write atomically; raises ``PisaError`` where the file cannot be written."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomic(Path(path), buffer.getvalue())


def _background(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    covered = np.broadcast_to(masks[..., None], frames.shape)
    median = np.ma.median(np.ma.masked_array(frames, covered), axis=0)
    return np.where(np.ma.getmaskarray(median), frames[0], median.filled(0)).astype(np.float64)


FAR_M = 50.0  # anything behind, sky included, is drawn black
Frames = UInt8[np.ndarray, "t h w 3"]


def clip_pictures(clip: Clip) -> dict[str, bytes]:
    """WebP files by kind: video, masks, depth and flow (where known; moving), strobe (still)."""
    frames = np.asarray(to_frames(clip.video))
    masks = clip.masks.numpy()
    moving = {"video": frames, "masks": paint_masks(frames, masks)}
    if clip.depth_m is not None:
        moving["depth"] = paint_depth(clip.depth_m.numpy())
    if clip.flow_px is not None:
        moving["flow"] = paint_flow(clip.flow_px.numpy())
    pictures = {key: _moving(value, clip.fps_hz) for key, value in moving.items()}
    return pictures | {"strobe": _still(all_in_one(frames, masks))}


def paint_masks(frames: Frames, masks: Bool[np.ndarray, "n t h w"]) -> Frames:
    """Each object in a colour of its own over the greyed video."""
    painted = 0.35 * frames + 0.35 * frames.mean(axis=-1, keepdims=True)
    for n, mask in enumerate(masks):
        hue = (n * 0.618034) % 1.0  # golden section: neighbours differ
        colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.75, 1.0))
        painted[mask] = 0.25 * painted[mask] + 0.75 * colour
    return painted.astype(np.uint8)


def paint_depth(depth_m: Float[np.ndarray, "t h w"]) -> Frames:
    """Inverse depth, nearest bright."""
    inverse = np.where(depth_m < FAR_M, 1 / np.clip(depth_m, 0.1, FAR_M), 0.0)
    scaled = inverse / inverse.max()
    return (255 * matplotlib.colormaps["magma"](scaled)[..., :3]).astype(np.uint8)


def paint_flow(flow_px: Float[np.ndarray, "2 u h w"]) -> Frames:
    """Hue is the direction, brightness the length, up to the longest of the clip."""
    length = np.hypot(flow_px[0], flow_px[1])
    angle = np.arctan2(flow_px[1], flow_px[0]) / (2 * np.pi) % 1.0
    value = np.sqrt(length / max(float(length.max()), 1e-6))
    hsv = np.stack([angle, np.full_like(angle, 0.8), value], axis=-1)
    return (255 * matplotlib.colors.hsv_to_rgb(hsv)).astype(np.uint8)


def all_in_one(frames: Frames, masks: Bool[np.ndarray, "n t h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Every second frame of whatever moves over one background (paper Figure 1)."""
    moves = (masks != masks[:, :1]).any(axis=(1, 2, 3))
    return stroboscopic(frames, masks[moves].any(axis=0), every=2)


def _moving(frames: Frames, fps_hz: float) -> bytes:
    pictures = [Image.fromarray(frame) for frame in frames]
    stream = io.BytesIO()
    pictures[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps_hz),
        loop=0,
        quality=80,
        method=0,
    )
    return stream.getvalue()


def _still(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=90)
    return stream.getvalue()
