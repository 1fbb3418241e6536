"""An animated picture of a run: truth, base, PSFT and PSFT + ORO fall side by side.

The clips are those at evenly spaced quantiles of PSFT's L2 (three: its quartiles), without those
whose object the tracker lost in the true clip. Times run at half speed.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.reports.figures.qualitative import Shown, l2_of, spread
from pisa.reports.html import LOST_L2
from pisa.reports.leaderboard import merge_clips, read_runs
from pisa.reports.names import TRUTH, model_colours, model_label, order_models, split_label
from pisa.reports.panels import trajectory

TILE_PX = 256
_GAP_PX, _TEXT_PX, _HEAD_PX, _FOOT_PX = 8, 17, 28, 28
_PAPER, _INK, _QUIET = (255, 255, 255), (29, 35, 41), (86, 96, 105)
_SPEED = 0.5
_HOLD_MS = 1200  # on the last frame
_MAX_BYTES = 3_000_000
_QUALITIES = (85, 70, 55, 40, 25)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder with metrics.json and report.html")
    parser.add_argument("--split", default="sim_unseen")
    parser.add_argument("--num", type=int, default=2, help="clips, one below the other")
    parser.add_argument("--tile", type=int, default=TILE_PX, help="side of a video in pixels")
    parser.add_argument("--out", type=Path, default=Path("figures/hero.webp"))


def main(given: argparse.Namespace) -> None:
    """Write the picture and print which clips are in it."""
    (run,) = read_runs([given.run])
    clips, fps_hz, _ = merge_clips([run], max_clips=10**9)
    chosen, models = choose(clips, run.metrics, given.split, given.num)
    scores = {model: l2_of(run.metrics, model) for model in models}
    frames = draw(chosen, models, scores, given.tile)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(given.out, encode(frames, fps_hz))
    names = ", ".join(item["clip"] for item in chosen)
    print(f"written: {given.out} ({given.split} clips {names})")


def choose(
    clips: Sequence[Shown], metrics: Mapping[str, Any], split: str, count: int
) -> tuple[list[Shown], list[str]]:
    """The clips and the models to show.

    Raises ``PisaError`` where the report shows no clip of the split, and for a count below 1.
    """
    if count < 1:
        raise PisaError("the picture needs at least one clip: raise --num")
    lost = {key for key, l2 in l2_of(metrics, TRUTH).items() if l2 > LOST_L2}
    found = [c for c in clips if c["split"] == split and (split, c["clip"]) not in lost]
    if not found:
        splits = ", ".join(dict.fromkeys(c["split"] for c in clips)) or "none"
        raise PisaError(f"the run's report shows no clips of {split!r}; its sets: {splits}")
    models = [m for m in order_models(found[0]["models"]) if m != "frozen"]
    judged = "psft" if "psft" in models else models[-1]
    return spread(found, count, l2_of(metrics, judged)), models


def draw(
    clips: Sequence[Shown],
    models: Sequence[str],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    tile_px: int = TILE_PX,
) -> list[Image.Image]:
    """One picture per frame: a row per clip, a column per model, L2 under each."""
    length = max(len(item["models"][model]["frames"]) for item in clips for model in models)
    return [_frame(clips, models, scores, tile_px, t) for t in range(length)]


def encode(frames: Sequence[Image.Image], fps_hz: float) -> bytes:
    """A looping WebP of at most 3 MB, at the best quality that fits.

    Raises ``PisaError`` where none does.
    """
    duration = [round(1000 / fps_hz / _SPEED)] * (len(frames) - 1) + [_HOLD_MS]
    for quality in _QUALITIES:
        stream = io.BytesIO()
        more: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "loop": 0}
        frames[0].save(stream, "WEBP", duration=duration, quality=quality, method=4, **more)
        if stream.tell() <= _MAX_BYTES:
            return stream.getvalue()
    raise PisaError("the picture is larger than 3 MB: lower --num or --tile")


def _frame(
    clips: Sequence[Shown],
    models: Sequence[str],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    tile_px: int,
    t: int,
) -> Image.Image:
    step, block = tile_px + _GAP_PX, tile_px + _FOOT_PX + _GAP_PX
    size = (len(models) * step + _GAP_PX, _HEAD_PX + len(clips) * block + _HEAD_PX)
    page = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=_TEXT_PX)
    colours = model_colours(models)
    for column, model in enumerate(models):
        pen.text((_GAP_PX + column * step, 5), model_label(model), _INK, font)
    for row, item in enumerate(clips):
        for column, model in enumerate(models):
            x, y = _GAP_PX + column * step, _HEAD_PX + row * block
            shown = item["models"][model]
            page.paste(_tile(item, shown, colours[model], tile_px, t, model != TRUTH), (x, y))
            l2 = scores[model].get((item["split"], item["clip"]))
            text = "not scored" if l2 is None else f"L2 {l2:.3f}"
            pen.text((x, y + tile_px + 3), text, _INK, font)
    foot = f"{split_label(clips[0]['split'])}, half speed; white: the true path"
    pen.text((_GAP_PX, size[1] - _HEAD_PX), foot, _QUIET, font)
    return page


def _tile(
    item: Shown, shown: Mapping[str, Any], colour: str, tile_px: int, t: int, with_truth: bool
) -> Image.Image:
    frames = shown["frames"]
    picture = Image.fromarray(np.ascontiguousarray(frames[min(t, len(frames) - 1)]))
    tile = picture.resize((tile_px, tile_px), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(tile)
    if with_truth:
        _path(pen, item["models"][TRUTH].get("mask"), "#ffffff", tile_px, None, 2)
    _path(pen, shown.get("mask"), colour, tile_px, t, 4)
    return tile


def _path(
    pen: ImageDraw.ImageDraw, mask: Any, colour: str, tile_px: int, last: int | None, width: int
) -> None:
    """The centroid's path until frame ``last`` (None: all of it); frames without one break it."""
    if mask is None:
        return
    points = trajectory(np.asarray(mask, dtype=bool))[: None if last is None else last + 1]
    scaled = [None if p is None else (p[0] * tile_px, p[1] * tile_px) for p in points]
    for shade, extra in (("#000000", 2), (colour, 0)):
        for start, end in pairwise(scaled):
            if start is not None and end is not None:
                pen.line([start, end], fill=shade, width=width + extra)
    if last is not None and scaled and scaled[-1] is not None:
        x, y = scaled[-1]
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour, outline="#000000")
