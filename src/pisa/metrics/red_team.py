"""Attacks on a true clip's masks: ways in which a video can be wrong that a metric should see.

Each takes the true masks ``[T, N, H, W]`` of a clip, the dropping object last, and a strength in
``[0, 1]``, and returns that object's masks ``[T, H, W]`` as a tracker would report them from the
attacked video. Strength 0 changes nothing; the stronger, the more frames or pixels are wrong.
``docs/red_team.md`` shows them and how each protocol's metrics respond.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import distance_transform_edt, zoom

from pisa.metrics.pair import evaluate_pair
from pisa.ops.masks import MaskError, bounding_box, centroids

Clip = Bool[np.ndarray, "t n h w"]
Track = Bool[np.ndarray, "t h w"]
Attack = Callable[[Clip, float], Track]
LANDED = 0.9  # of the whole fall


def vanish(masks: Clip, strength: float) -> Track:
    """The object is gone in the last ``strength`` of the frames (never in frame 0)."""
    return _in_last_frames(masks, strength, lambda t, mask: mask & False)


def freeze(masks: Clip, strength: float) -> Track:
    """The object stops in mid-fall; at strength 1 it never leaves its place."""
    held = round((1 - strength) * landing_frame(masks[:, -1]))
    track = masks[:, -1].copy()
    if strength > 0:
        track[held:] = track[held]
    return track


def duplicate(masks: Clip, strength: float) -> Track:
    """In the last frames a copy appears on the wider side, and the mask covers both."""
    return _in_last_frames(masks, strength, lambda t, mask: mask | _aside(mask))


def teleport(masks: Clip, strength: float) -> Track:
    """In the last frames the object is elsewhere: at the edge of the wider side."""
    return _in_last_frames(masks, strength, lambda t, mask: _aside(mask))


def swap(masks: Clip, strength: float) -> Track:
    """In the last frames the object is taken for the clip's first one.

    Raises ``MaskError`` for a clip with one object.
    """
    if masks.shape[1] < 2:
        raise MaskError("swap needs a clip with two objects or more")
    return _in_last_frames(masks, strength, lambda t, mask: masks[t, 0])


def grow(masks: Clip, strength: float) -> Track:
    """Every mask but the first is dilated; at strength 1 by half its larger side."""
    track = masks[:, -1].copy()
    for t in range(1, len(track)):
        box = bounding_box(track[t])
        if box is not None and strength > 0:
            side = max(s.stop - s.start for s in box)
            track[t] = distance_transform_edt(~track[t]) <= max(1.0, strength * side / 2)
    return track


def hover(masks: Clip, strength: float) -> Track:
    """The object falls by ``1 - strength`` of the true way: at 1 it turns in the air."""
    track = masks[:, -1]
    y = centroids(track)[:, 1]
    up = np.nan_to_num(strength * (y - y[0]))
    return np.stack([shift(mask, 0, -round(d)) for mask, d in zip(track, up, strict=True)])


def time_warp(masks: Clip, strength: float) -> Track:
    """Slow motion; at strength 1 the clip takes three times as long."""
    index = np.floor(np.arange(len(masks)) / (1 + 2 * strength)).astype(int)
    return masks[index, -1]


def rise(masks: Clip, strength: float) -> Track:
    """The object moves up by ``strength`` of the way it should have fallen."""
    track = masks[:, -1]
    y = centroids(track)[:, 1]
    up = np.nan_to_num((1 + strength) * (y - y[0])) if strength > 0 else np.zeros(len(y))
    return np.stack([shift(mask, 0, -round(d)) for mask, d in zip(track, up, strict=True)])


def slide(masks: Clip, strength: float) -> Track:
    """The object drifts sideways as it falls; at strength 1 by half the frame in the clip."""
    track, width = masks[:, -1], masks.shape[-1]
    side = _wider_side(track[0])
    far = side * strength * width / 2 * np.arange(len(track)) / max(1, len(track) - 1)
    return np.stack([shift(mask, round(d), 0) for mask, d in zip(track, far, strict=True)])


def deform(masks: Clip, strength: float) -> Track:
    """The object gets flatter and wider; at strength 1 a third as high at twice the width."""
    track = masks[:, -1].copy()
    for t in range(1, len(track)):
        share = strength * t / (len(track) - 1)
        track[t] = _stretch(track[t], 1 - 2 / 3 * share, 1 + share)
    return track


def truncate(masks: Clip, strength: float) -> Track:
    """The video ends early; at strength 1 after its first frame."""
    return masks[: len(masks) - round(strength * (len(masks) - 1)), -1]


def late(masks: Clip, strength: float) -> Track:
    """The object starts to fall late; at strength 1 by half the clip."""
    delay = round(strength * len(masks) / 2)
    return masks[np.maximum(np.arange(len(masks)) - delay, 0), -1]


def flicker(masks: Clip, strength: float) -> Track:
    """The object is gone in ``strength`` of the frames, evenly spread (never in frame 0)."""
    track = masks[:, -1].copy()
    gone = np.diff(np.floor(strength * np.arange(len(track)))) > 0
    track[1:][gone] = False
    return track


def specks(masks: Clip, strength: float) -> Track:
    """Up to eight specks around the frame, each a twentieth of the object: below what counts."""
    track = masks[:, -1].copy()
    height, width = track.shape[1:]
    places = [(i, j) for i in (1, 5, 3) for j in (1, 5, 3) if (i, j) != (3, 3)]
    for t in range(1, len(track)):
        side = max(1, round(float(np.sqrt(np.count_nonzero(track[t]) / 20))))
        for i, j in places[: round(strength * len(places))]:
            top, left = height * i // 6, width * j // 6
            track[t, top : top + side, left : left + side] = True
    return track


def bridge(masks: Clip, strength: float) -> Track:
    """Copies move out to both sides, tied to the object by a line: one piece, the same centroid."""
    track = masks[:, -1].copy()
    for t in range(1, len(track)):
        box = bounding_box(track[t])
        if box is None:
            continue
        left, right = box[1].start, box[1].stop
        far = round(strength * min(left, masks.shape[-1] - right))
        track[t] |= shift(track[t], -far, 0) | shift(track[t], far, 0)
        if far > 0:
            track[t, (box[0].start + box[0].stop) // 2, left - far : right + far] = True
    return track


ATTACKS: dict[str, Attack] = {
    f.__name__: f for f in (vanish, freeze, duplicate, teleport, swap, grow, hover, time_warp)
}
EXTRA_ATTACKS: dict[str, Attack] = {
    f.__name__: f for f in (rise, slide, deform, truncate, late, flicker, specks, bridge)
}


def losses(masks: Clip, track: Track, fps_hz: float, protocol: str) -> dict[str, float]:
    """l2, Chamfer and 1 - IoU of an attacked track: lower is better in each (NaN: undefined)."""
    scores = evaluate_pair(masks[:, -1], track, fps_hz, fps_hz, protocol=protocol)
    return {"l2": scores["l2"], "chamfer": scores["chamfer"], "1 - iou": 1 - scores["iou"]}


def landing_frame(track: Track) -> int:
    """First frame in which the object has fallen nine tenths of its whole way."""
    fallen = np.nan_to_num(centroids(track)[:, 1] - centroids(track[:1])[0, 1])
    return max(1, int(np.argmax(fallen >= LANDED * fallen.max())))


def shift(mask: Bool[np.ndarray, "h w"], dx: int, dy: int) -> Bool[np.ndarray, "h w"]:
    """The mask moved to the right and down; what leaves the frame is lost."""
    moved = np.zeros_like(mask)
    height, width = mask.shape
    if abs(dx) < width and abs(dy) < height:
        moved[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = mask[
            max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)
        ]
    return moved


def _in_last_frames(
    masks: Clip, strength: float, change: Callable[[int, np.ndarray], np.ndarray]
) -> Track:
    track = masks[:, -1].copy()
    first = len(track) - round(strength * (len(track) - 1))
    for t in range(first, len(track)):
        track[t] = change(t, track[t])
    return track


def _wider_side(mask: Bool[np.ndarray, "h w"]) -> int:
    box = bounding_box(mask)
    return 1 if box is None or box[1].start + box[1].stop <= mask.shape[1] else -1


def _aside(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask at the edge of the frame on its wider side."""
    box = bounding_box(mask)
    if box is None:
        return mask
    side = _wider_side(mask)
    return shift(mask, mask.shape[1] - box[1].stop if side > 0 else -box[1].start, 0)


def _stretch(mask: Bool[np.ndarray, "h w"], tall: float, wide: float) -> Bool[np.ndarray, "h w"]:
    """The mask scaled about its box's bottom centre; what leaves the frame is lost."""
    box = bounding_box(mask)
    if box is None:
        return mask
    crop = mask[box]
    size = (max(1, round(crop.shape[0] * tall)), max(1, round(crop.shape[1] * wide)))
    factors = (size[0] / crop.shape[0], size[1] / crop.shape[1])
    small = zoom(crop, factors, order=0, grid_mode=True, mode="nearest")
    canvas = np.zeros_like(mask)
    height, width = min(small.shape[0], mask.shape[0]), min(small.shape[1], mask.shape[1])
    left = round((box[1].start + box[1].stop - width) / 2)
    left = min(max(0, left), mask.shape[1] - width)
    top = max(0, box[0].stop - height)
    canvas[top : top + height, left : left + width] = small[:height, :width]
    return canvas
