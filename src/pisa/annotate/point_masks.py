"""A first mask from points, for a tracker that takes none.

From each positive point the region of similar colour grows as the tolerance does; the tolerance
whose region has the steepest edge around it wins. Colours nearer to a negative point, or to a point
on another object, don't count as similar; where both colours are alike, the nearer point decides.
An object of several colours needs a point on each. SAM 2 does better (docs/guide/annotate.md has
the accuracy).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation, binary_fill_holes, label, sobel

from pisa.errors import PisaError
from pisa.types import ObjectPoints

_TOLERANCES = range(6, 120, 3)  # grey levels
_LARGEST = 0.35  # of the picture; more is the background
_SMALLEST_PX = 6
_BRIGHTNESS = 0.52  # its weight beside that of colour: shading changes it
_ALIKE = 6.0  # grey levels; colours closer than this don't tell two objects apart

Points = Sequence[tuple[float, float]]


def masks_from_points(
    picture: UInt8[np.ndarray, "h w 3"], objects: Sequence[ObjectPoints]
) -> Bool[np.ndarray, "n h w"]:
    """One mask per object; points (x, y) in pixels of the picture.

    Raises ``PisaError`` for a point outside of the picture.
    """
    edges = _edges(picture)
    found = []
    for index, entry in enumerate(objects):
        others = [p for i, other in enumerate(objects) if i != index for p in other.positive]
        distance = _distance(picture, entry.positive)
        away = [*entry.negative, *others]
        if away:
            distance[_is_of_others(picture, distance, entry.positive, away)] = np.inf
        found.append(_best_region(distance, edges, entry.positive))
    return np.stack(found)


def _is_of_others(
    picture: UInt8[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    points: Points,
    away: Points,
) -> Bool[np.ndarray, "h w"]:
    """Pixels more like ``away`` than ``points``, in place where the colours are alike."""
    difference = _distance(picture, away) - distance
    nearer = _separation_px(distance.shape, away) < _separation_px(distance.shape, points)
    return (difference <= -_ALIKE) | ((difference < _ALIKE) & nearer)


def _separation_px(shape: tuple[int, ...], points: Points) -> Float[np.ndarray, "h w"]:
    """From each pixel to the nearest of the points."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.min([np.hypot(columns - x, rows - y) for x, y in points], axis=0)


def _best_region(
    distance: Float[np.ndarray, "h w"], edges: Float[np.ndarray, "h w"], points: Points
) -> Bool[np.ndarray, "h w"]:
    best, steepest = _dots(distance.shape, points), -1.0
    for tolerance in _TOLERANCES:
        parts, _ = label(distance < tolerance)
        touched = {int(parts[round(y), round(x)]) for x, y in points} - {0}
        region = binary_fill_holes(np.isin(parts, list(touched)))
        if region.mean() > _LARGEST:
            break
        if region.sum() < _SMALLEST_PX:
            continue
        outer = binary_dilation(region) & ~region
        inner = region & binary_dilation(~region)
        steep = float(edges[outer].mean() + edges[inner].mean())
        if steep > steepest:
            best, steepest = region, steep
    return best


def _distance(picture: UInt8[np.ndarray, "h w 3"], points: Points) -> Float[np.ndarray, "h w"]:
    """To the nearest of the points' colours (medians of 3x3); brightness counts less."""
    colours = picture.astype(np.float64)
    nearest = np.full(picture.shape[:2], np.inf)
    for x, y in points:
        row, column = round(y), round(x)
        if not (0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]):
            raise PisaError("a point lies outside of the crop; move the crop or the point")
        around = colours[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        off = colours - np.median(around.reshape(-1, 3), axis=0)  # robust at an edge
        brightness = off.mean(axis=-1)
        hue = ((off - brightness[..., None]) ** 2).sum(axis=-1)
        nearest = np.minimum(nearest, np.sqrt((_BRIGHTNESS * brightness) ** 2 + hue))
    return nearest


def _edges(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    channels = [picture[..., c].astype(np.float64) for c in range(3)]
    return np.sqrt(sum(sobel(c, axis) ** 2 for c in channels for axis in (0, 1)))


def _dots(shape: tuple[int, ...], points: Points) -> Bool[np.ndarray, "h w"]:
    """3x3 pixels at each point: used where no region has a clear edge."""
    mask = np.zeros(shape, dtype=bool)
    for x, y in points:
        row, column = round(y), round(x)
        mask[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    return mask
