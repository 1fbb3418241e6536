"""Run lengths and polygons, the two ways in which annotation tools write a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray


def run_lengths(pixels: Bool[np.ndarray, " p"]) -> list[int]:
    """Alternating run lengths, beginning with those of False (0 if the first pixel is True)."""
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [len(pixels)]])).tolist()
    return [0, *runs] if pixels[0] else runs


def from_run_lengths(runs: Sequence[int], num_pixels: int) -> Bool[np.ndarray, " p"]:
    """The inverse of ``run_lengths``. Raises ``ValueError`` unless the runs add up."""
    lengths = np.asarray(runs, dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() != num_pixels:
        raise ValueError(f"run lengths add up to {lengths.sum()} px, not {num_pixels}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def to_coco_text(runs: Sequence[int]) -> str:
    """Run lengths as COCO compresses them: 5 bits a character, from the fourth on as differences.

    The difference is to the run two places before, which is of the same kind.
    """
    text = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(bits + 32 * more + 48))
    return "".join(text)


def from_coco_text(text: str) -> list[int]:
    """The inverse of ``to_coco_text``. Raises ``ValueError`` for other text."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"run lengths hold the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("run lengths end in the middle of a number")
    return runs


def fill_polygon(points: NDArray[np.float64], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Pixels whose centre lies inside a closed polygon (even-odd rule).

    ``points`` [P, 2] are (x, y) from the picture's upper left corner: the first pixel's centre is
    at (0.5, 0.5), as in CVAT and COCO. Raises ``ValueError`` for points that are no numbers.
    """
    if not np.isfinite(points).all():
        raise ValueError("a polygon has points at infinity")
    toggled = np.zeros((height, width + 1), dtype=bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, stop = sorted((np.ceil(y1 - 0.5), np.ceil(y2 - 0.5)))
        rows = np.arange(max(0, int(first)), min(height, int(stop)))
        crossings = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1) if len(rows) else rows
        columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
        toggled[rows, columns] ^= True
    filled: NDArray[np.bool_] = np.logical_xor.accumulate(toggled, axis=1)[:, :width]
    return filled


def box_of(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
