"""Figure 4: what each model makes of a first frame, over time, beside the truth."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from pisa.errors import PisaError
from pisa.reports.figures import style
from pisa.reports.figures.style import origin_of, together
from pisa.reports.leaderboard import merge, merge_clips, read_runs
from pisa.reports.names import TRUTH, model_label, order_models, order_splits, split_label

TIMES = 7
Shown = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with report.html")
    help_text = "SPLIT/CLIP; default: those at the median (quantiles) of L2 of the last model"
    parser.add_argument("--clips", nargs="+", help=help_text)
    parser.add_argument("--num", type=int, default=1, help="clips of each split")
    parser.add_argument("--frozen", action="store_true", help="show the frozen first frame too")
    style.add_out(parser, "figure4")


def main(given: argparse.Namespace) -> None:
    runs = read_runs(given.runs)
    clips, fps_hz, notes = merge_clips(runs, max_clips=10**9)
    for note in notes:
        print(note)
    model = order_models(model for item in clips for model in item["models"])[-1:]
    chosen = choose(clips, given.num, given.clips, l2_of(merge(runs), *model))
    origin = together(origin_of(run.metrics["provenance"]) for run in runs)
    rule = f"Clips at evenly spaced quantiles of the L2 of {', '.join(map(model_label, model))}"
    style.write(
        given.out,
        origin,
        lambda: draw(chosen, fps_hz, frozen=given.frozen),
        title="Figure 4: models side by side",
        notes=f"{rule} (of one: the median)." if given.clips is None else "",
    )


def choose(
    clips: Sequence[Shown],
    count: int,
    names: Sequence[str] | None,
    l2: Mapping[tuple[str, str], float],
) -> list[Shown]:
    """The named clips (``SPLIT/CLIP``), or ``count`` of each split, ``spread`` by their L2.

    Raises ``PisaError`` where the runs show no such clip.
    """
    by_name = {f"{item['split']}/{item['clip']}": item for item in clips}
    if not by_name:
        raise PisaError("these runs' reports show no clips; figure 4 needs a report.html with them")
    if names is not None:
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise PisaError(f"no clip {', '.join(unknown)}; shown are {', '.join(by_name)}")
        return [by_name[name] for name in names]
    if count < 1:
        raise PisaError("figure 4 needs at least one clip of each split: raise --num")
    splits = order_splits(item["split"] for item in clips)
    return [c for s in splits for c in spread([i for i in clips if i["split"] == s], count, l2)]


def l2_of(metrics: Mapping[str, Any], model: str) -> dict[tuple[str, str], float]:
    """L2 of a model by split and clip, mean over seeds; clips without one are absent."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in metrics["per_clip"]:
        if row["model"] == model and row.get("l2") is not None:
            values.setdefault((row["split"], row["clip"]), []).append(row["l2"])
    return {key: sum(found) / len(found) for key, found in values.items()}


def spread(clips: Sequence[Shown], count: int, l2: Mapping[tuple[str, str], float]) -> list[Shown]:
    """Clips at evenly spaced quantiles of L2, best first: one is the median, three the quartiles.

    All of them, best first, where there are no more than ``count``; clips without an L2 come last.
    """
    ranked = sorted(clips, key=lambda c: l2.get((c["split"], c["clip"]), float("inf")))
    if len(ranked) <= count:
        return ranked
    scored = [c for c in ranked if (c["split"], c["clip"]) in l2] or ranked
    places = np.linspace(0, len(scored) - 1, count + 2).round().astype(int)[1:-1]
    if len(set(places)) < count:  # too few clips for quantiles
        places = np.linspace(0, len(scored) - 1, count).round().astype(int)
    return [scored[i] for i in dict.fromkeys(places)]


def draw(clips: Sequence[Shown], fps_hz: float, *, frozen: bool = False) -> Figure:
    """A block per clip: its first frame, then a row per model over time.

    ``clips``: see ``pisa.reports.panels.build_panels``. Raises ``PisaError`` for a clip that lacks
    its true video.
    """
    rows = [_models(item, frozen) for item in clips]
    side_in = style.TEXT_IN / (TIMES + 2.2)
    heights = [side_in * len(models) + 0.22 for models in rows]
    figure = style.new_figure(style.TEXT_IN, sum(heights) + 0.2)
    blocks = figure.subfigures(len(clips), 1, squeeze=False, height_ratios=heights)[:, 0]
    for block, item, models in zip(blocks, clips, rows, strict=True):
        _draw_block(block, item, models, fps_hz)
    return figure


def _draw_block(block: SubFigure, item: Shown, models: Sequence[str], fps_hz: float) -> None:
    grid = block.add_gridspec(len(models), TIMES + 1, width_ratios=[1.6, *[1.0] * TIMES])
    truth = item["models"][TRUTH]["frames"]
    first = block.add_subplot(grid[:, 0])
    style.show_frame(first, truth[0])
    first.set_title(f"{split_label(item['split'])}, {item['clip']}")
    first.set_xlabel("first frame")
    times = np.linspace(0, len(truth) - 1, TIMES + 1).round().astype(int)[1:]
    for row, model in enumerate(models):
        frames = item["models"][model]["frames"]
        for column, t in enumerate(times):
            axes = block.add_subplot(grid[row, column + 1])
            if t < len(frames):
                style.show_frame(axes, frames[t])
            else:
                axes.set_axis_off()
            if row == 0:
                axes.set_title(f"{t / fps_hz:.2f} s", fontsize=6.5)
            if column == 0:
                axes.set_ylabel(model_label(model).replace(" (", "\n("), fontsize=5.5)


def _models(item: Shown, frozen: bool) -> list[str]:
    if TRUTH not in item["models"]:
        raise PisaError(f"clip {item['split']}/{item['clip']}: the reports lack its true video")
    return [m for m in order_models(item["models"]) if frozen or m != "frozen"]
