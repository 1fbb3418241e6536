"""The square crop of a clip, in pixels of the recording as shown (paper Appendix H, Figure 11b)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pisa.errors import PisaError
from pisa.ops.masks import bounding_box

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


def leaves(masks: Bool[np.ndarray, "t h w"], border_px: int = 1) -> list[int]:
    """Frames in which the object touches the picture's border or is not seen at all."""
    inner = masks[:, border_px:-border_px, border_px:-border_px].sum(axis=(1, 2))
    total = masks.sum(axis=(1, 2))
    return [int(t) for t in np.flatnonzero((inner < total) | (total == 0))]
