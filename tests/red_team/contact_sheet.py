"""A contact sheet of videos: a row per model, a column per frame."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from pisa.io.files import write_atomic
from pisa.reports.names import model_label, order_models

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


def save_png(path: Path | str, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write atomically; raises ``PisaError`` where the file cannot be written."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomic(Path(path), buffer.getvalue())
