"""Measures beyond position (paper Appendix L): they need a video, its tracked masks, no true clip.

Each compares frames of one video with that video's own frame 0:

* ``colour_change``, ``texture_change``: how far the object's colours, and the strength of its
  edges, moved. Both are earth mover's distances of histograms, as a fraction of the value range.
  Unlike a bin-by-bin distance they have no bin borders: a shift of all colours by 20 of 255 is
  20 / 255. A histogram ignores where the pixels are, so that motion and rotation cost nothing.
* ``area_kept``: the smaller of the object's area and its area in frame 0 over the larger one: 1 for
  a rigid object at one depth, 0 where it is missing.
* ``piece_share``: the largest connected piece's share of the mask; 1/2 for two equal copies.
* ``path_length``: how far the centroid travels, in frame diagonals. No value is good or bad as
  such; 0 is a video in which nothing falls.
* ``background_change``: mean absolute colour difference to frame 0, as a fraction of the range,
  over the pixels that the object never covers, its shadow never darkens, and other objects, which
  it may strike, do not cover in frame 0.
* ``brightness_change``: how far the whole picture became brighter or darker, as a fraction of the
  range: the median over the pixels, so that a moving object or its shadow does not count.
* ``high_frequency_change``: how far the strength of the finest detail (the picture without its
  binomial blur) moved, likewise: a grid or noise that a method adds, or a blur.

``galileo_ratio`` and the gravity of ``pisa.metrics.readout`` test the law of the fall itself.

Two measures compare videos of one first frame with each other (``video_difference``):

* ``stage_change``: with the video of the model before (PSFT for ORO, base for PSFT) from the same
  noise: how far a stage moved the model.
* ``diversity``: with the same model's video from other noise; 0 where all outcomes are one.

``reward`` is what a method of post-training was given for such a video: beside a judge that it was
not trained with, it shows what was learned for the reward alone.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from pisa.metrics.pieces import connected_pieces
from pisa.metrics.readout import read_out
from pisa.ops.masks import centroids

Frames = UInt8[np.ndarray, "t h w 3"]
Track = Bool[np.ndarray, "t h w"]

OBJECT_MEASURES = ("area_kept", "piece_share", "path_length")
PICTURE_MEASURES = ("brightness_change", "high_frequency_change")
PIXEL_MEASURES = ("colour_change", "texture_change", "background_change", *PICTURE_MEASURES)
VIDEO_PAIR_MEASURES = ("stage_change", "diversity")
LAW_MEASURES = ("g_m_s2", "galileo")
MEASURES = (*PIXEL_MEASURES, *OBJECT_MEASURES, *LAW_MEASURES, *VIDEO_PAIR_MEASURES, "reward")

_LEVELS = 256
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_MARGIN = 1 / 32  # of the frame's shorter side: how far around the object its edge is blurred
# A shadow scales a colour by one factor in all channels; less than a tenth is noise.
_SHADOW, _TINT = (0.3, 0.9), 10.0  # the factor, and its misfit in levels of 255
_SHADOW_AREA = 2.0  # times the object's: a larger change of light is not its shadow


def object_measures(track: Track) -> dict[str, float]:
    """``OBJECT_MEASURES`` of one object's masks; ``area_kept`` is NaN where frame 0 lacks it."""
    areas = np.count_nonzero(track, axis=(1, 2))
    seen = np.flatnonzero(areas)
    first = float(areas[0]) if len(areas) and areas[0] else float("nan")
    kept = np.minimum(areas, first) / np.maximum(areas, first)
    largest = [connected_pieces(track[t])[1].max() / areas[t] for t in seen]
    steps_px = np.diff(centroids(track[seen]), axis=0)
    return {
        "area_kept": float(kept[1:].mean()) if len(kept) > 1 else float("nan"),
        "piece_share": float(np.mean(largest)) if largest else float("nan"),
        "path_length": float(np.hypot(*steps_px.T).sum() / np.hypot(*track.shape[1:])),
    }


def pixel_measures(
    frames: Frames, track: Track, others: Bool[np.ndarray, "h w"]
) -> dict[str, float]:
    """``PIXEL_MEASURES`` of a video and its object's masks, of one length and size.

    ``others`` are the pixels of all other objects in frame 0. NaN where frame 0 or all later frames
    lack the object, or where it is too thin to have an interior (``texture_change``).
    """
    whole = frames.astype(np.float32)
    edges = _edge_strength(whole)
    inside = _interior(track)
    colours = [_histograms(frames[t][track[t]]) for t in range(len(track))]
    textures = [_histograms(edges[t][inside[t]][:, None]) for t in range(len(track))]
    return {
        "colour_change": _mean_distance(colours),
        "texture_change": _mean_distance(textures),
        "background_change": _background_change(whole, track, others),
    } | picture_measures(frames)


def picture_measures(frames: Frames) -> dict[str, float]:
    """``PICTURE_MEASURES`` of a video, whatever is in it; NaN for a single frame."""
    if len(frames) < 2:
        return dict.fromkeys(PICTURE_MEASURES, float("nan"))
    grey = frames.astype(np.float32) @ _GREY
    brighter = np.median(grey[1:] - grey[0], axis=(1, 2))
    blurred = grey
    for axis in (1, 2):
        blurred = ndimage.convolve1d(blurred, np.array([0.25, 0.5, 0.25]), axis, mode="mirror")
    detail = np.median(np.abs(grey - blurred), axis=(1, 2))
    return {
        "brightness_change": float(np.abs(brighter).mean() / 255),
        "high_frequency_change": float(np.abs(detail[1:] - detail[0]).mean() / 255),
    }


def video_difference(first: Frames, second: Frames) -> float:
    """Mean absolute difference of two videos of equal shape, 0 .. 1 (0 to 255 levels)."""
    return float(np.abs(first.astype(np.float32) - second).mean() / 255)


def galileo_ratio(first: Track, second: Track, fps_hz: float) -> float:
    """Ratio of two objects' fall distance over time squared, 1 where both fall alike (Galileo).

    Without units: pixels and seconds cancel for objects at one depth, whatever the camera, rate and
    gravity. Each fall is fitted from rest in frame 0 to its impact. NaN unless both fall.
    """
    if not (falls(first) and falls(second)):
        return float("nan")
    one, other = (read_out(track, fps_hz).g_px for track in (first, second))
    return one / other if other else float("nan")


def falls(track: Track) -> bool:
    """Whether the centroid ever is more than 5 % of the frame's height below frame 0."""
    y_px = centroids(track)[:, 1]
    lowest = np.nanmax(y_px, initial=-np.inf)
    return bool(lowest - y_px[0] > 0.05 * track.shape[1]) if len(y_px) else False


def _histograms(values: UInt8[np.ndarray, "n c"]) -> Float[np.ndarray, "c l"] | None:
    """Share of the values of each channel at every level; None for no values."""
    if not len(values):
        return None
    counts = [np.bincount(channel, minlength=_LEVELS) for channel in values.T]
    return np.stack(counts) / len(values)


def _mean_distance(histograms: list[Float[np.ndarray, "c l"] | None]) -> float:
    """Mean over frames and channels of the earth mover's distance to frame 0, 0 .. 1."""
    first, others = histograms[0], [h for h in histograms[1:] if h is not None]
    if first is None or not others:
        return float("nan")
    apart = np.cumsum(np.stack(others) - first, axis=2)
    return float(np.abs(apart[..., :-1]).sum(axis=2).mean() / (_LEVELS - 1))


def _edge_strength(frames: Float[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h w"]:
    """Magnitude of the central differences of the grey image, in levels; 0 at the frame's edge."""
    grey = frames @ _GREY
    strength = np.zeros(grey.shape, dtype=np.uint8)
    down, right = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1], grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    strength[:, 1:-1, 1:-1] = np.clip(np.hypot(down, right) / 2 + 0.5, 0, 255)
    return strength


def _interior(track: Track) -> Track:
    """Pixels whose four neighbours are the object's too: the outline does not count as texture."""
    inside = np.zeros_like(track)
    middle = track[:, 1:-1, 1:-1]
    sides = track[:, :-2, 1:-1] & track[:, 2:, 1:-1] & track[:, 1:-1, :-2] & track[:, 1:-1, 2:]
    inside[:, 1:-1, 1:-1] = middle & sides
    return inside


def _background_change(
    frames: Float[np.ndarray, "t h w 3"], track: Track, others: Bool[np.ndarray, "h w"]
) -> float:
    """See the top; NaN for a single frame, or where the object covers the whole picture."""
    margin = max(1, round(_MARGIN * min(track.shape[1:])))
    near = track.any(axis=0) | others
    behind = ~ndimage.binary_dilation(near, np.ones((3, 3)), iterations=margin)
    first, later = frames[0][behind], frames[1:][:, behind]  # [P, 3], [T - 1, P, 3]
    if not later.size:
        return float("nan")
    shadow = _shadowed(first, later)
    largest_px = _SHADOW_AREA * max(1, int(np.count_nonzero(track, axis=(1, 2)).max()))
    counted = ~(shadow & (np.count_nonzero(shadow, axis=1) <= largest_px)[:, None])
    apart = np.abs(later - first).mean(axis=2) / 255
    return float((apart * counted).sum() / max(1, np.count_nonzero(counted)))


def _shadowed(
    first: Float[np.ndarray, "p 3"], later: Float[np.ndarray, "t p 3"]
) -> Bool[np.ndarray, "t p"]:
    """Pixels that one factor relates to frame 0: a shadow that came (below 1) or went (above)."""
    power = np.maximum((first**2).sum(axis=1), 1e-6)
    factor = np.einsum("tpc,pc->tp", later, first) / power
    tint = np.abs(later - factor[..., None] * first).max(axis=2)
    darker = np.minimum(factor, 1 / np.maximum(factor, 1e-6))
    return np.asarray((darker >= _SHADOW[0]) & (darker <= _SHADOW[1]) & (tint <= _TINT))
