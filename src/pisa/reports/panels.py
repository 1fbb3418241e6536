"""Clips for the HTML report: one looping video strip per clip, masks and trajectories as data.

All models of a clip share one H.264 strip (tiles side by side), so they cannot drift apart.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from pisa.errors import PisaError
from pisa.ops.masks import centroids
from pisa.ops.video import read_video, write_mp4
from pisa.reports.names import metric_label, order_metrics, order_models

TILE_PX = 128  # long side of one tile inside the encoded strip
_MASK_PX = 128  # long side of the mask grid kept for the overlay


@dataclass(frozen=True)
class Panel:
    """One clip; ``overlay[model]`` holds path and masks, ``scores[model][metric]`` values."""

    clip: str
    split: str
    models: tuple[str, ...]
    video_base64: str
    num_frames: int
    aspect: float  # width / height of one tile
    enlarged: bool  # small frames are shown with sharp pixels
    overlay: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, float | None]]


def build_panels(
    videos: Sequence[Mapping[str, Any]], per_clip: Sequence[Mapping[str, Any]], fps_hz: float
) -> list[Panel]:
    """Items are ``{clip, split, models: {model: {"frames", "mask"}}}``.

    ``frames`` are uint8 ``[T, H, W, 3]``; ``mask`` is bool ``[T, H, W]``, missing or None.
    An optional ``seed`` picks the row whose scores are shown (otherwise the clip's first).
    Shorter videos hold their last frame.
    """
    return [_panel(item, per_clip, fps_hz) for item in videos]


def trajectory(mask: Bool[np.ndarray, "t h w"]) -> list[list[float] | None]:
    """Per frame ``[x, y]`` of the mask's centroid as fractions of width and height, or None."""
    height, width = mask.shape[1:]
    fractions = (centroids(mask) + 0.5) / (width, height)  # pixel centres lie at integers
    return [None if np.isnan(x) else [round(float(x), 4), round(float(y), 4)] for x, y in fractions]


def pack_mask(mask: Bool[np.ndarray, "t h w"]) -> dict[str, Any]:
    """Grid size and, per frame, the object's box ``[x, y, width, height, base64 bits]`` or None."""
    step = -(-max(mask.shape[1:]) // _MASK_PX)
    small = mask[:, ::step, ::step]
    frames: list[list[Any] | None] = []
    for frame in small:
        rows, columns = np.nonzero(frame)
        if not len(rows):
            frames.append(None)
            continue
        top, left = int(rows.min()), int(columns.min())
        box = frame[top : rows.max() + 1, left : columns.max() + 1]
        bits = base64.b64encode(np.packbits(box).tobytes()).decode("ascii")
        frames.append([left, top, box.shape[1], box.shape[0], bits])
    return {"width": small.shape[2], "height": small.shape[1], "frames": frames}


def _panel(item: Mapping[str, Any], per_clip: Sequence[Mapping[str, Any]], fps_hz: float) -> Panel:
    models = order_models(item["models"])
    frames = [np.asarray(item["models"][model]["frames"]) for model in models]
    length = max(len(f) for f in frames)
    height, width = _tile_size(*frames[0].shape[1:3])
    tiles = [_fit(_hold_last(f, length), height, width) for f in frames]
    return Panel(
        clip=item["clip"],
        split=item["split"],
        models=tuple(models),
        video_base64=_encode(np.concatenate(tiles, axis=2), fps_hz),
        num_frames=length,
        aspect=width / height,
        enlarged=max(frames[0].shape[1:3]) <= TILE_PX,
        overlay={m: _overlay(item["models"][m].get("mask"), length) for m in models},
        scores={m: _scores(per_clip, m, item) for m in models},
    )


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """A whole multiple for small frames, at most ``TILE_PX`` for large ones; both even."""
    long = max(height, width)
    scale = -(-TILE_PX // long) if long < TILE_PX else TILE_PX / long
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def _fit(
    frames: UInt8[np.ndarray, "t h w 3"], height: int, width: int
) -> UInt8[np.ndarray, "t i j 3"]:
    enlarge = height >= frames.shape[1]
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX
    return np.stack(
        [np.asarray(Image.fromarray(f).resize((width, height), method)) for f in frames]
    )


def _hold_last(frames: np.ndarray, length: int) -> np.ndarray:
    return frames[np.minimum(np.arange(length), len(frames) - 1)]


def _encode(strip: UInt8[np.ndarray, "t h w 3"], fps_hz: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strip.mp4"
        write_mp4(path, strip, fps_hz)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def _overlay(mask: Any, length: int) -> dict[str, Any]:
    if mask is None:
        return {"path": [None] * length, "mask": None}
    held = _hold_last(np.asarray(mask, dtype=bool), length)
    return {"path": trajectory(held), "mask": pack_mask(held)}


def _scores(
    per_clip: Sequence[Mapping[str, Any]], model: str, item: Mapping[str, Any]
) -> dict[str, float | None]:
    """The metrics of the shown sample; empty where the clip was not scored."""
    for row in per_clip:
        same = (row["model"], row["split"], row["clip"]) == (model, item["split"], item["clip"])
        if same and item.get("seed", row["seed"]) == row["seed"]:
            numbers = {k: v for k, v in row.items() if v is None or isinstance(v, float)}
            named = (name for name in order_metrics(numbers) if metric_label(name) != name)
            return {name: numbers[name] for name in named}  # the others: metrics.json
    return {}


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
