"""A clip's truths as pictures: masks, depth and flow over the video, and all frames in one."""

from __future__ import annotations

import colorsys
import io

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from pisa.ops.video import to_frames
from pisa.reports.contact_sheet import stroboscopic
from pisa.types import Clip

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
