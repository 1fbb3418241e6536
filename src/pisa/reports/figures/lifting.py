"""Figure 7: trajectories of a model lifted to 3D, among all falls that its first frame allows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay, fallen_m
from pisa.reports.figures import style
from pisa.reports.figures.style import model_of, origin_of, read_analysis
from pisa.reports.names import model_label

SHOWN = 3
_DEPTHS = 9  # grey falls
_VIEW = {"elev": 20, "azim": -62}

Clip = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="lift3d.json, or its folder")
    parser.add_argument("--model", help="a row of the result; default: the last")
    parser.add_argument("--num", type=int, default=SHOWN, help="clips, by evenly spread distance")
    style.add_out(parser, "figure7")


def main(given: argparse.Namespace) -> None:
    document = read_analysis(given.result, "lift3d")
    model = model_of(document, given.model)
    summary = document["models"][model]["summary"]
    clips = choose(document["models"][model]["clips"], given.num)
    notes = (
        f"{model_label(model)}: {summary['n']} of {summary['clips']} clips hit the floor; distance "
        "to the nearest possible fall, quartiles in m: "
        f"{', '.join(f'{value:.2f}' for value in summary['rms_m_quartiles'])}. Shown are clips of "
        "evenly spread distance. The paper gives pictures only."
    )
    style.write(
        given.out,
        origin_of(document["provenance"]),
        lambda: draw(clips, document["depth_range_m"]),
        title="Figure 7: trajectories lifted to 3D",
        notes=notes,
    )


def choose(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Clips that hit the floor, evenly spread by their distance from a possible fall.

    Raises ``PisaError`` where there are fewer.
    """
    landed = sorted((c for c in clips if c["status"] == "impact"), key=lambda c: c["rms_m"])
    if count < 1 or len(landed) < count:
        raise PisaError(
            f"figure 7 needs {max(count, 1)} clips with an impact; got {len(landed)}: choose fewer "
            "with --num, or another row with --model (truth has the simulated clips)"
        )
    places = (np.arange(count) + 0.5) / count * len(landed)
    return [landed[int(place)] for place in places]


def draw(clips: Sequence[Clip], depth_range_m: Sequence[float]) -> Figure:
    """Above in 3D, below height over time beside the nearest possible fall."""
    columns = len(clips)
    figure = style.new_figure(style.TEXT_IN * columns / SHOWN, 3.5)
    grid = figure.add_gridspec(2, columns, height_ratios=(1.6, 1.0))
    for column, clip in enumerate(clips):
        _draw_3d(figure.add_subplot(grid[0, column], projection="3d"), clip, depth_range_m)
        flat = figure.add_subplot(grid[1, column])
        _draw_heights(flat, clip)
        if column == 0:
            flat.set_ylabel("height (m)")
            flat.legend(handlelength=1.6)
    return figure


def possible_fall(ray: DropRay, depth_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and heights in metres of a fall from that depth until the floor."""
    end_s = float(ray.drop_time_s(depth_m))
    time_s = np.linspace(0, end_s, 40)
    return time_s, np.asarray(ray.height_m(depth_m) - fallen_m(time_s))


def _draw_3d(axes: Any, clip: Clip, depth_range_m: Sequence[float]) -> None:
    ray = _ray(clip)
    depths_m = np.linspace(depth_range_m[0], depth_range_m[1], _DEPTHS)
    for depth_m in depths_m:
        time_s, height_m = possible_fall(ray, float(depth_m))
        axes.plot(np.full_like(time_s, depth_m), time_s, height_m, color=style.PALE, linewidth=0.9)
    zeros = np.zeros(2)
    ends = np.array(depth_range_m, dtype=float)
    axes.plot(ends, zeros, ray.height_m(ends), color=style.BLUE, linewidth=1.6)
    lifted = np.full(len(clip["time_s"]), clip["implied_depth_m"])
    axes.plot(lifted, clip["time_s"], clip["height_m"], color=style.GREEN, linewidth=2.2)
    axes.view_init(**_VIEW)
    axes.set_box_aspect((1.35, 1.0, 0.9), zoom=1.15)
    axes.tick_params(pad=-3, labelsize=5.5)
    for name, pad in (("x", -8), ("y", -8), ("z", -9)):
        label = {"x": "depth (m)", "y": "time (s)", "z": "height (m)"}[name]
        getattr(axes, f"set_{name}label")(label, labelpad=pad, fontsize=6.5)
        getattr(axes, f"{name}axis").set_pane_color((1, 1, 1, 0))
        getattr(axes, f"{name}axis").set_major_locator(MaxNLocator(4))
    axes.grid(False)
    axes.set_title(
        f"depth {clip['implied_depth_m']:.1f} m, off by {clip['rms_m']:.2f} m", pad=0, y=0.97
    )


def _draw_heights(axes: Axes, clip: Clip) -> None:
    nearest_s, nearest_m = possible_fall(_ray(clip), clip["nearest_depth_m"])
    axes.plot(nearest_s, nearest_m, color=style.GREY, label="nearest possible fall")
    axes.plot(
        clip["time_s"], clip["height_m"], "o-", color=style.GREEN, markersize=3, label="lifted"
    )
    axes.set_xlabel("time (s)")
    axes.axhline(0, color=style.PALE, linewidth=0.9, zorder=0)  # the floor
    axes.set_ylim(bottom=min(0.0, 1.15 * min(clip["height_m"])))


def _ray(clip: Clip) -> DropRay:
    return DropRay(clip["slope"], clip["camera_height_m"])
