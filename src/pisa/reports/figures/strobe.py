"""Figure 1: whole drops in one picture each, of real or simulated data sets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.figure import Figure

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.errors import PisaError
from pisa.ops.masks import centroids
from pisa.ops.video import to_frames
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of_data, together
from pisa.reports.names import split_label
from pisa.types import Clip

EXPOSURES = 16
_EXPOSURES_SMALL = 6  # where more would smear into one another
_SMALL_PX = 128
_NOTES = "The falling object at evenly spaced times, later ones more opaque; the last is the end."
_LOOKED_AT = 30  # clips of a set among which the longest falls are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_sets", nargs="+", type=Path, help="data sets, or folders of clips")
    parser.add_argument("--clips", nargs="+", help="names of clips; default: long falls")
    parser.add_argument("--num", type=int, default=3, help="clips of each data set")
    style.add_out(parser, "figure1")


def main(given: argparse.Namespace) -> None:
    origin = together(origin_of_data(folder) for folder in given.data_sets)
    rows = [(f.name, choose(f, given.num, given.clips)) for f in given.data_sets]
    title = "Figure 1: drops in one picture"
    style.write(given.out, origin, lambda: draw(rows), title=title, notes=_NOTES)


def draw(rows: Sequence[tuple[str, Sequence[Clip]]]) -> Figure:
    """One row of pictures per data set, ``(name, clips)`` each."""
    columns = max(len(clips) for _, clips in rows)
    side_in = style.COLUMN_IN / max(columns, 3)
    figure = style.new_figure(side_in * columns, (side_in + 0.2) * len(rows) + 0.15)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, (name, clips) in zip(grid, rows, strict=True):
        axes_row[0].set_title(split_label(name.rsplit("-", 1)[0]), loc="left")
        for axes in axes_row[len(clips) :]:
            axes.set_axis_off()
        for axes, clip in zip(axes_row, clips, strict=False):
            style.show_frame(axes, picture(clip))
    return figure


def picture(clip: Clip) -> np.ndarray:
    """Moments of the dropping object over one background, uint8 ``[H, W, 3]``."""
    frames, masks = to_frames(clip.video), clip.masks[clip.dropping_index].numpy()
    count = _EXPOSURES_SMALL if max(frames.shape[1:3]) <= _SMALL_PX else EXPOSURES
    return stroboscopic(frames, masks, every=max(1, len(frames) // count))


def stroboscopic(
    frames: UInt8[np.ndarray, "t h w 3"], masks: Bool[np.ndarray, "t h w"], every: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
    """The object of every ``every``-th frame over one background (the paper's Figure 1).

    Background pixels are the median over the frames in which the object does not cover them (the
    first frame where it always does); earlier positions are fainter, the last frame is opaque.

    Raises ``ValueError`` where frames and masks differ in length or size.
    """
    if frames.shape[:3] != masks.shape:
        raise ValueError(f"frames {frames.shape} and masks {masks.shape} do not belong together")
    image = _background(frames, masks)
    chosen = sorted({*range(0, len(frames), every), len(frames) - 1})
    for opacity, t in zip(np.linspace(0.45, 1.0, len(chosen)), chosen, strict=True):
        over = opacity * frames[t] + (1 - opacity) * image
        image = np.where(masks[t][..., None], over, image)
    return np.round(image).astype(np.uint8)


def _background(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    covered = np.broadcast_to(masks[..., None], frames.shape)
    median = np.ma.median(np.ma.masked_array(frames, covered), axis=0)
    return np.where(np.ma.getmaskarray(median), frames[0], median.filled(0)).astype(np.float64)


def choose(folder: Path, count: int, names: Sequence[str] | None) -> list[Clip]:
    """The named clips, or those whose objects fall furthest among the first of the set.

    Raises ``PisaError`` for names that the set lacks, and for a count below 1.
    """
    if count < 1:
        raise PisaError("figure 1 needs at least one clip of each data set: raise --num")
    if names is not None:
        return [read_clip(path) for path in style.named_clips(folder, names)]
    clips = [read_clip(path) for path in list_clips(folder)[:_LOOKED_AT]]
    return sorted(clips, key=_fall_px, reverse=True)[:count]


def _fall_px(clip: Clip) -> float:
    """How far the object sinks while it is in sight, times its size; 0 without an object."""
    masks = clip.masks[clip.dropping_index].numpy()
    y_px = centroids(masks)[:, 1]
    seen = y_px[~np.isnan(y_px)]
    whole = len(seen) == len(y_px)
    return float((seen.max() - seen[0]) * np.sqrt(masks[0].sum())) if whole else 0.0
