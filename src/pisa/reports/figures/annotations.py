"""Figure 10: real clips and their annotations, frames above and masks below."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.ops.video import to_frames
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of_data
from pisa.types import Clip

COLOURS = (style.ORANGE, style.BLUE, style.GREEN, style.PURPLE, style.SKY, style.RED)
_NOTES = "Above: frames at evenly spaced times; below: each object's mask, the dropping one orange."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_set", type=Path, help="clips with masks, data/real for one")
    parser.add_argument("--clips", nargs="+", help="names of clips; default: evenly spread ones")
    parser.add_argument("--num", type=int, default=3, help="clips that are shown")
    parser.add_argument("--frames", type=int, default=6, help="frames of each clip")
    style.add_out(parser, "figure10")


def main(given: argparse.Namespace) -> None:
    """Draw the given clips, or some of the data set."""
    if min(given.num, given.frames) < 1:
        raise PisaError("--num and --frames must be at least 1")
    clips = [read_clip(path) for path in choose(given.data_set, given.num, given.clips)]
    origin, title = origin_of_data(given.data_set), "Figure 10: real clips and their annotations"
    style.write(given.out, origin, lambda: draw(clips, given.frames), title=title, notes=_NOTES)


def choose(folder: Path, num: int, names: Sequence[str] | None) -> list[Path]:
    """The named clips, or ``num`` spread evenly over the set.

    Raises ``PisaError`` for a name that the set lacks.
    """
    if names is not None:
        return style.named_clips(folder, names)
    every = list_clips(folder)
    return [every[i * len(every) // num] for i in range(min(num, len(every)))]


def draw(clips: Sequence[Clip], num_frames: int) -> Figure:
    """Two rows of pictures per clip, its caption above."""
    side_in = style.TEXT_IN / num_frames
    figure = style.new_figure(style.TEXT_IN, len(clips) * (2 * side_in + 0.2) + 0.2)
    grid = figure.subplots(2 * len(clips), num_frames, squeeze=False)
    for above, below, clip in zip(grid[::2], grid[1::2], clips, strict=True):
        index = np.linspace(0, clip.video.shape[1] - 1, num_frames).round().astype(int)
        frames = to_frames(clip.video)[index]
        coloured = mask_pictures(clip, index)
        above[0].set_title(clip.caption or clip.name, loc="left")
        for axes, picture in zip((*above, *below), (*frames, *coloured), strict=True):
            style.show_frame(axes, picture)
    return figure


def mask_pictures(clip: Clip, index: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
    """The objects of some frames in a colour each on black; the dropping object has the first."""
    masks = clip.masks.numpy()[:, index]
    pictures = np.zeros((*masks.shape[1:], 3), dtype=np.uint8)
    drop = clip.dropping_index % len(masks)
    order = [drop, *(i for i in range(len(masks)) if i != drop)]
    for place, n in reversed(list(enumerate(order))):  # the dropping object is drawn last
        pictures[masks[n]] = np.rint(np.multiply(to_rgb(COLOURS[place % len(COLOURS)]), 255))
    return pictures
