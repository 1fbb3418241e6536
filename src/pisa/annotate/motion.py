"""Release moments, and the square crop around what moves (paper section 3, Appendix H).

A release is where something starts to move after stillness. Motion is measured on the small grey
pictures of a recording, in grey levels (0 to 255); crops are in pixels of the recording as shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import uniform_filter

from pisa.annotate.recording import FPS_HZ
from pisa.errors import PisaError
from pisa.ops.masks import bounding_box

LAG = 4  # frames between the pictures that are compared: 1/30 s, slow starts show
SEEN_AFTER = 4  # frames from a release to the motion that is seen: some 6 mm of fall
STILL_S = 0.3  # how long it must be still before a release
MOVING_S = 0.06  # how long it must move after it
REST_S = 0.25  # what follows the end of the motion in a suggested clip
MIN_LEVEL = 5.0  # grey levels; less is noise
MOVED_LEVEL = 12.5  # of places on the way: shadows and noise stay below
MAX_CLIP_S = 12.0  # Appendix H


@dataclass(frozen=True)
class Release:
    """A suggested clip: the last still frame, and the frame after the motion has ended."""

    start: int
    stop: int


def motion_signal(grid: UInt8[np.ndarray, "t i j"]) -> Float[np.ndarray, " t"]:
    """Largest change of a 3x3 mean against ``LAG`` frames before; 0 in the first ones."""
    signal = np.zeros(len(grid))
    for k in range(LAG, len(grid)):
        signal[k] = _largest_change(grid[k], grid[k - LAG].astype(np.float32))
    return signal


def still_level(signal: Float[np.ndarray, " t"]) -> float:
    """Below it nothing moves: three times the quietest fifth, at least ``MIN_LEVEL``."""
    return max(MIN_LEVEL, 3 * float(np.quantile(signal[LAG:], 0.2))) if len(signal) > LAG else 0.0


def find_releases(grid: UInt8[np.ndarray, "t i j"]) -> list[Release]:
    """Starts of motion that follow ``STILL_S`` of stillness, in order."""
    signal = motion_signal(grid)
    moving = signal >= still_level(signal)
    moving[:LAG] = False
    still, held = round(STILL_S * FPS_HZ), round(MOVING_S * FPS_HZ)
    releases: list[Release] = []
    k = still
    while k < len(moving) - held:
        if moving[k] and not moving[k - still : k].any() and moving[k : k + held].mean() > 0.6:
            stop = _rest_after(moving, k)
            releases.append(Release(_last_still(grid, k, signal), stop))
            k = max(stop, k + held)
        else:
            k += 1
    return releases


def onset_near(signal: Float[np.ndarray, " t"], start: int) -> int | None:
    """First frame of the motion that continues in frame ``start``, else of the next one.

    None where nothing moves any more. Pauses of up to ``LAG`` frames belong to a motion.
    """
    moving = np.flatnonzero(signal >= still_level(signal))
    moving = moving[moving >= LAG]
    after = moving[moving >= start]
    if not len(after):
        return None
    onset = int(after[0])
    if onset > start + LAG:
        return onset
    earlier = moving[moving <= onset]
    breaks = np.flatnonzero(np.diff(earlier) > LAG)
    return int(earlier[breaks[-1] + 1] if len(breaks) else earlier[0])


def moving_area(grid: UInt8[np.ndarray, "t i j"]) -> Bool[np.ndarray, "i j"]:
    """Where anything differs from the first picture at any time: the way of what falls."""
    first = grid[0].astype(np.float32)
    area = np.zeros(grid.shape[1:], dtype=bool)
    for picture in grid[1:]:
        area |= np.abs(uniform_filter(picture.astype(np.float32) - first, 3)) >= MOVED_LEVEL
    return area


def _rest_after(moving: Bool[np.ndarray, " t"], onset: int) -> int:
    """A little after the motion has ended, at most ``MAX_CLIP_S`` after its onset."""
    rest = round(REST_S * FPS_HZ)
    limit = min(len(moving), onset + int(MAX_CLIP_S * FPS_HZ))
    for k in range(onset, limit - rest):
        if not moving[k : k + rest].any():
            return k + rest
    return limit


def _last_still(grid: UInt8[np.ndarray, "t i j"], onset: int, signal: np.ndarray) -> int:
    """The last frame before ``onset`` that looks like the still ones before it."""
    still = grid[max(0, onset - LAG - 16) : max(1, onset - LAG - 4)].astype(np.float32)
    rest = still.mean(axis=0)
    noise = max(_largest_change(picture, rest) for picture in still)
    frame = onset
    while frame > max(0, onset - 3 * LAG) and _largest_change(grid[frame], rest) > noise + 1.5:
        frame -= 1
    return frame


def _largest_change(picture: np.ndarray, other: Float[np.ndarray, "i j"]) -> float:
    return float(np.abs(uniform_filter(picture.astype(np.float32) - other, 3)).max())


MIN_SIDE_PX = 32
_MARGIN = 0.12  # of the moving area's longer side, on each side


@dataclass(frozen=True)
class Crop:
    """Left, top and side in whole pixels."""

    left: int
    top: int
    side: int

    def moved(self, dx_px: float, dy_px: float, size: tuple[int, int]) -> Crop:
        """Moved as far as the frame (height, width) allows."""
        return inside(self.left + dx_px, self.top + dy_px, self.side, size)

    def dragged(self, corner: str, x: float, y: float, size: tuple[int, int]) -> Crop:
        """With the corner ``nw``, ``ne``, ``sw`` or ``se`` at (x, y); the opposite one stays."""
        right, bottom = self.left + self.side, self.top + self.side
        wide = right - x if "w" in corner else x - self.left
        high = bottom - y if "n" in corner else y - self.top
        room_x = right if "w" in corner else size[1] - self.left
        room_y = bottom if "n" in corner else size[0] - self.top
        side = round(min(max(wide, high, MIN_SIDE_PX), room_x, room_y))
        left = right - side if "w" in corner else self.left
        top = bottom - side if "n" in corner else self.top
        return Crop(left, top, side)

    def grown(self, by_px: int, size: tuple[int, int]) -> Crop:
        """Larger (or smaller) around its centre."""
        return inside(self.left - by_px / 2, self.top - by_px / 2, self.side + by_px, size)


def inside(left: float, top: float, side: float, size: tuple[int, int]) -> Crop:
    """The nearest crop that lies in the frame (height, width)."""
    whole = round(min(max(side, MIN_SIDE_PX), *size))
    return Crop(
        round(min(max(left, 0), size[1] - whole)), round(min(max(top, 0), size[0] - whole)), whole
    )


def full(size: tuple[int, int]) -> Crop:
    """The largest crop, in the middle."""
    side = min(size)
    return inside((size[1] - side) / 2, (size[0] - side) / 2, side, size)


def suggest(area: Bool[np.ndarray, "i j"], size: tuple[int, int]) -> Crop:
    """A square around what moves, with a margin; the largest one where nothing does."""
    box = bounding_box(area)
    if box is None:
        return full(size)
    scale_y, scale_x = size[0] / area.shape[0], size[1] / area.shape[1]
    top, bottom = box[0].start * scale_y, box[0].stop * scale_y
    left, right = box[1].start * scale_x, box[1].stop * scale_x
    side = max(bottom - top, right - left) * (1 + 2 * _MARGIN)
    return inside((left + right - side) / 2, (top + bottom - side) / 2, side, size)


def check_inside(crop: Crop, size: tuple[int, int]) -> None:
    """Raises ``PisaError`` where the crop is too small or leaves the frame (height, width)."""
    if crop.side < MIN_SIDE_PX:
        raise PisaError(f"the crop is {crop.side} px wide; at least {MIN_SIDE_PX} are needed")
    if crop != inside(crop.left, crop.top, crop.side, size):
        raise PisaError(f"the crop leaves the frame of {size[1]}x{size[0]} px")


def leaves(masks: Bool[np.ndarray, "t h w"]) -> list[int]:
    """Frames in which the object touches the picture's border or is not seen at all."""
    inner = masks[:, 1:-1, 1:-1].sum(axis=(1, 2))
    total = masks.sum(axis=(1, 2))
    return [int(t) for t in np.flatnonzero((inner < total) | (total == 0))]
