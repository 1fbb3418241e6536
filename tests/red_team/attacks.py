"""Attacks on a true clip's masks: ways in which a video can be wrong that a metric should see.

Each takes the true masks ``[T, N, H, W]`` of a clip, the dropping object last, and a strength in
``[0, 1]``, and returns that object's masks ``[T, H, W]`` as a tracker would report them from the
attacked video. Strength 0 changes nothing. Stronger means that more frames are wrong in the same
way, or that a frame's error is larger in the same direction. (Showing an earlier true frame instead
would not do for slow motion: truth bounces, turns and hides, so that a longer delay can be nearer.)
``docs/reference/metrics.md`` shows the attacks and how each protocol's metrics respond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, zoom

from pisa.metrics.pair import evaluate_pair
from pisa.ops.masks import MaskError, bounding_box, centroids

Clip = Bool[np.ndarray, "t n h w"]
Track = Bool[np.ndarray, "t h w"]
Attack = Callable[[Clip, float], Track]
LANDED = 0.9  # of the whole fall


def vanish(masks: Clip, strength: float) -> Track:
    """The object is gone in the last ``strength`` of the frames that show it (never in frame 0)."""
    return _in_last_frames(masks, strength, lambda t, mask: mask & False)


def freeze(masks: Clip, strength: float) -> Track:
    """The object stops in mid-fall; at strength 1 it never leaves its place."""
    held = round((1 - strength) * landing_frame(masks[:, -1])) if strength > 0 else len(masks)
    return _delayed(masks, np.minimum(np.arange(len(masks)), held))


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
    return _raised(masks, strength * fallen_px(masks[:, -1]))


def time_warp(masks: Clip, strength: float) -> Track:
    """Slow motion; at strength 1 the fall takes three times as long."""
    return _delayed(masks, np.arange(len(masks)) / (1 + 2 * strength))


def rise(masks: Clip, strength: float) -> Track:
    """The object moves up by ``strength`` of the way it should have fallen, or to the top.

    Raises ``MaskError`` where there is no room above it for a sixth of that way.
    """
    fall_px, box = fallen_px(masks[:, -1]), bounding_box(masks[0, -1])
    if box is None or box[0].start < fall_px.max() / 6:
        raise MaskError("rise needs room above the object")
    return _raised(masks, (1 + strength) * fall_px * (strength > 0))


def slide(masks: Clip, strength: float) -> Track:
    """The object drifts sideways as it falls; at strength 1 by half the frame in the clip."""
    track, width = masks[:, -1], masks.shape[-1]
    side = _wider_side(track[0])
    far = side * strength * width / 2 * np.arange(len(track)) / max(1, len(track) - 1)
    return np.stack([shift(mask, round(d), 0) for mask, d in zip(track, far, strict=True)])


def deform(masks: Clip, strength: float) -> Track:
    """In the last frames the object is a third as high and twice as wide."""
    return _in_last_frames(masks, strength, lambda t, mask: _stretch(mask, 1 / 3, 2.0))


def truncate(masks: Clip, strength: float) -> Track:
    """The video ends early; at strength 1 after its first frame."""
    return masks[: len(masks) - round(strength * (len(masks) - 1)), -1]


def late(masks: Clip, strength: float) -> Track:
    """The object starts to fall late; at strength 1 by half the clip."""
    delay = round(strength * len(masks) / 2)
    return _delayed(masks, np.maximum(np.arange(len(masks)) - delay, 0))


def flicker(masks: Clip, strength: float) -> Track:
    """The object is gone in ``strength`` of the frames that show it, spread (never in frame 0)."""
    track = masks[:, -1].copy()
    seen = np.flatnonzero(track[1:].any(axis=(1, 2))) + 1
    track[seen[np.diff(np.ceil(strength * np.arange(len(seen) + 1))) > 0]] = False
    return track


def specks(masks: Clip, strength: float) -> Track:
    """Up to four pairs of specks, each a twentieth of the object: below what counts as a piece.

    A pair lies at opposite sides of the frame. (Single ones wouldn't do: a speck opposite to the
    last one moves the centroid back.)
    """
    track = masks[:, -1].copy()
    height, width = track.shape[1:]
    pairs = [((1, 1), (5, 5)), ((1, 5), (5, 1)), ((1, 3), (5, 3)), ((3, 1), (3, 5))]
    for t in range(1, len(track)):
        side = max(1, round(float(np.sqrt(np.count_nonzero(track[t]) / 20))))
        for i, j in chain.from_iterable(pairs[: round(strength * len(pairs))]):
            top, left = height * i // 6, width * j // 6
            track[t, top : top + side, left : left + side] = True
    return track


def bridge(masks: Clip, strength: float) -> Track:
    """Copies move out to both sides, tied to the object by a line: one piece, the same centroid.

    Raises ``MaskError`` for an object at the frame's edge in every frame: there is no room.
    """
    track = masks[:, -1].copy()
    if track.shape[0] < 2 or not any(_room_px(mask) > 0 for mask in track[1:]):
        raise MaskError("bridge needs an object with room on both sides")
    for t in range(1, len(track)):
        box = bounding_box(track[t])
        if box is None:
            continue
        left, right = box[1].start, box[1].stop
        far = math.ceil(strength * _room_px(track[t]))
        track[t] |= shift(track[t], -far, 0) | shift(track[t], far, 0)
        if far > 0:
            track[t, (box[0].start + box[0].stop) // 2, left - far : right + far] = True
    return track


def explode(masks: Clip, strength: float) -> Track:
    """In the last frames the mask spreads by 4 pixels of 64 more in each, until it is all there is.

    The tracker leaks into the background.
    """
    track = masks[:, -1].copy()
    step_px = 4 * track.shape[1] / 64
    seen = np.flatnonzero(track[1:].any(axis=(1, 2))) + 1
    for k, t in enumerate(seen[len(seen) - math.ceil(strength * len(seen)) :], start=1):
        track[t] = distance_transform_edt(~track[t]) <= k * step_px
    return track


def flood(masks: Clip, strength: float) -> Track:
    """In the last frames the mask is the whole picture: a tracker that lost its target."""
    return _in_last_frames(masks, strength, lambda t, mask: mask | True)


def half(masks: Clip, strength: float) -> Track:
    """In the last frames the mask is the left or right half of the picture, and the object."""
    left = np.arange(masks.shape[-1]) < masks.shape[-1] // 2
    return _in_last_frames(
        masks, strength, lambda t, mask: mask | (left if _wider_side(mask) > 0 else ~left)
    )


def together(masks: Clip, strength: float) -> Track:
    """In the last frames the mask covers all objects at once.

    Raises ``MaskError`` for a clip with one object.
    """
    if masks.shape[1] < 2:
        raise MaskError("together needs a clip with two objects or more")
    return _in_last_frames(masks, strength, lambda t, mask: masks[t].any(axis=0))


ATTACKS: dict[str, Attack] = {
    f.__name__: f for f in (vanish, freeze, duplicate, teleport, swap, grow, hover, time_warp)
}
EXTRA_ATTACKS: dict[str, Attack] = {
    f.__name__: f for f in (rise, slide, deform, truncate, late, flicker, specks, bridge)
}
LOST_TRACKER: dict[str, Attack] = {f.__name__: f for f in (explode, flood, half, together)}


def losses(masks: Clip, track: Track, fps_hz: float, protocol: str) -> dict[str, float]:
    """l2, Chamfer and 1 - IoU of an attacked track: lower is better in each (NaN: undefined)."""
    scores = evaluate_pair(masks[:, -1], track, fps_hz, fps_hz, protocol=protocol)
    return {"l2": scores["l2"], "chamfer": scores["chamfer"], "1 - iou": 1 - scores["iou"]}


def landing_frame(track: Track) -> int:
    """First frame in which the object has fallen nine tenths of its whole way."""
    fallen = fallen_px(track)
    return max(1, int(np.argmax(fallen >= LANDED * fallen.max())))


def fallen_px(track: Track) -> Float[np.ndarray, " t"]:
    """How far the centroid is below its first place in each frame; 0 where there is none."""
    y_px = centroids(track)[:, 1]
    return np.nan_to_num(y_px - y_px[0])


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
    """The last ``strength`` of the frames after frame 0 that show the object, rounded up."""
    track = masks[:, -1].copy()
    seen = np.flatnonzero(track[1:].any(axis=(1, 2))) + 1
    for t in seen[len(seen) - math.ceil(strength * len(seen)) :]:
        track[t] = change(t, track[t])
    return track


def _raised(masks: Clip, up_px: Float[np.ndarray, " t"]) -> Track:
    """Each frame's mask moved up by so much, but not beyond the top of the frame."""
    track = masks[:, -1].copy()
    for t, mask in enumerate(masks[:, -1]):
        box = bounding_box(mask)
        if box is not None:
            track[t] = shift(mask, 0, -min(round(up_px[t]), box[0].start))
    return track


def _delayed(masks: Clip, shown: Float[np.ndarray, " t"] | Int[np.ndarray, " t"]) -> Track:
    """Each frame's mask at the height that the fall had reached in frame ``shown[t] <= t``.

    The mask is the frame's own, so that turning and occlusion don't mix in.
    """
    deepest_px = np.maximum.accumulate(fallen_px(masks[:, -1]))
    reached_px = np.interp(shown, np.arange(len(deepest_px)), deepest_px)
    return _raised(masks, deepest_px - reached_px)


def _room_px(mask: Bool[np.ndarray, "h w"]) -> int:
    """How far the mask may move to either side; 0 for an empty one."""
    box = bounding_box(mask)
    return 0 if box is None else min(box[1].start, mask.shape[1] - box[1].stop)


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
