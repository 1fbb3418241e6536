"""Black borders: where in a frame the benchmark's picture lies (paper Appendix I).

Models that cannot make the benchmark's aspect ratio get first frames padded with black; the bars
are cut off again before scoring. Only the first frame is looked at: it is the padded input, while
later frames may be painted over.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

_LUMA = (0.299, 0.587, 0.114)
_DARK = 32.0  # luma of 255; codecs do not keep black at 0
_SLACK_PX = 2  # bright pixels of the picture that ring into the bars
ASPECT_TOLERANCE = 0.02

Window = tuple[slice, slice]


def content_window(first: UInt8[np.ndarray, "h w 3"], aspect: float) -> Window | None:
    """Rows and columns of the picture, of the given aspect ratio (width / height).

    The whole frame where its aspect is right within 2 %, whatever it shows. Otherwise all that lies
    outside the window is black; of several such windows the most central. None where there is none.
    """
    height, width = first.shape[:2]
    if abs(width / height / aspect - 1) <= ASPECT_TOLERANCE:
        return slice(0, height), slice(0, width)
    luma = first @ np.array(_LUMA)
    if width / height > aspect:
        columns = _span(np.percentile(luma, 98, axis=0) > _DARK, round(height * aspect))
        return None if columns is None else (slice(0, height), columns)
    rows = _span(np.percentile(luma, 98, axis=1) > _DARK, round(width / aspect))
    return None if rows is None else (rows, slice(0, width))


def central_window(height: int, width: int, aspect: float) -> Window:
    """The largest centred window of that aspect ratio."""
    if width / height > aspect:
        length = max(1, round(height * aspect))
        return slice(0, height), _at((width - length) // 2, length)
    length = max(1, round(width / aspect))
    return _at((height - length) // 2, length), slice(0, width)


def pad_to(
    frame: UInt8[np.ndarray, "h w 3"], height: int, width: int
) -> UInt8[np.ndarray, "i j 3"]:
    """The whole picture as large as it fits into ``height`` x ``width``, centred on black.

    It lies in the ``central_window`` of its aspect ratio.
    """
    rows, columns = central_window(height, width, frame.shape[1] / frame.shape[0])
    size = columns.stop - columns.start, rows.stop - rows.start
    padded = np.zeros((height, width, 3), dtype=np.uint8)
    padded[rows, columns] = np.asarray(Image.fromarray(frame).resize(size))
    return padded


def _span(bright: Bool[np.ndarray, " n"], length: int) -> slice | None:
    """The most central ``length`` lines that hold all bright ones."""
    last_start = len(bright) - length
    centre = last_start // 2
    found = np.flatnonzero(bright)
    if len(found) == 0:
        return _at(centre, length)
    for slack in range(_SLACK_PX + 1):
        low = max(0, int(found[-1]) + 1 - length - slack)
        high = min(last_start, int(found[0]) + slack)
        if low <= high:
            return _at(min(max(centre, low), high), length)
    return None


def _at(start: int, length: int) -> slice:
    return slice(start, start + length)
