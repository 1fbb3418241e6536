"""The clips inside a report.html of this project, read back: frames, masks and models."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from pisa.ops.video import read_video
from pisa.types import PisaError

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_VIDEO = re.compile(
    r'<article class="clip" data-index="(\d+)".*?src="data:video/mp4;base64,([^"]+)"', re.DOTALL
)


def read_report_clips(path: Path) -> tuple[list[dict[str, Any]], float]:
    """Clips as ``panels.build_panels`` takes them, and their frames per second.

    None where the page shows no clips. Raises ``PisaError`` for a page of another version.
    """
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PisaError(f"cannot read {path}: {error.strerror}") from error
    found = _DATA.search(page)
    if found is None:
        return [], 0.0
    try:
        data = json.loads(found[1])
        strips = {int(index): strip for index, strip in _VIDEO.findall(page)}
        clips = [_clip(panel, strips[i]) for i, panel in enumerate(data["panels"])]
        return clips, float(data["fps"])
    except (KeyError, ValueError, TypeError) as error:
        raise PisaError(f"{path}: its clips are of another version") from error


def _clip(panel: dict[str, Any], strip: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strip.mp4"
        path.write_bytes(base64.b64decode(strip))
        frames, _ = read_video(path)
    models = panel["models"]
    width = frames.shape[2] // len(models)
    tiles = {m: frames[:, :, i * width : (i + 1) * width] for i, m in enumerate(models)}
    shown = {m: {"frames": tiles[m], "mask": _mask(panel["overlay"][m]["mask"])} for m in models}
    return {"clip": panel["clip"], "split": panel["split"], "models": shown}


def _mask(packed: dict[str, Any] | None) -> Bool[np.ndarray, "t h w"] | None:
    """The opposite of ``panels.pack_mask``."""
    if packed is None:
        return None
    masks = np.zeros((len(packed["frames"]), packed["height"], packed["width"]), dtype=bool)
    for mask, box in zip(masks, packed["frames"], strict=True):
        if box is not None:
            left, top, width, height, bits = box
            raw = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
            inside = np.unpackbits(raw, count=width * height).reshape(height, width)
            mask[top : top + height, left : left + width] = inside.astype(bool)
    return masks
