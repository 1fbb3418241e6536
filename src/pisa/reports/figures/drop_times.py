"""Figure 8: sampled drop times against p(t | y), for a few of the images of section 5.2."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay
from pisa.reports.figures import style
from pisa.reports.figures.style import model_of, origin_of, read_analysis
from pisa.reports.names import model_label
from pisa.reports.published import published_drop_times
from pisa.section5.drop_study import LEVEL
from pisa.section5.drop_time import DropTimes

SHOWN = 4
_CURVE_POINTS = 400

Fit = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="drop_time.json, or its folder")
    parser.add_argument("--model", help="a row of the result; default: the last")
    parser.add_argument(
        "--num", type=int, help=f"images, evenly spread by height; default: {SHOWN}"
    )
    style.add_out(parser, "figure8")


def main(given: argparse.Namespace) -> None:
    document = read_analysis(given.result, "drop_time")
    model = model_of(document, given.model)
    result = document["models"][model]
    count = min(SHOWN, len(result["images"])) if given.num is None else given.num
    fits = choose(result["images"], count)
    style.write(
        given.out,
        origin_of(document["provenance"]),
        lambda: draw(fits, result["fps_hz"], result["num_frames"]),
        title="Figure 8: drop times against p(t | y)",
        notes=_notes(model, result["summary"]),
    )


def _notes(model: str, summary: Mapping[str, Any]) -> str:
    published = published_drop_times()
    passed = summary["passed"]
    alike = f", {passed['p_read']} that against true drops read alike" if "p_read" in passed else ""
    return (
        f"{model_label(model)}: {passed['p_ks']} of {summary['images']} images pass the calibrated "
        f"Kolmogorov-Smirnov test at {summary['level']:g}, {passed['p_two_sample']} the paper's"
        f"{alike}; the paper's model (published): {published['passed']} of {published['images']}. "
        f"{summary['samples']} samples."
    )


def choose(fits: Sequence[Fit], count: int) -> list[Fit]:
    """Images of evenly spread slopes. Raises ``PisaError`` where there are fewer."""
    if not 1 <= count <= len(fits):
        raise PisaError(f"figure 8 can show 1 to {len(fits)} images of this result, not {count}")
    ordered = sorted(fits, key=lambda fit: fit["slope"])
    places = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return [ordered[i] for i in places]


def draw(fits: Sequence[Fit], fps_hz: float, num_frames: int) -> Figure:
    """Above densities, below distribution functions; one column per image."""
    figure = style.new_figure(style.TEXT_IN * len(fits) / SHOWN, 3.0)
    grid = figure.subplots(2, len(fits), squeeze=False, sharex=True)
    for axes_column, fit in zip(grid.T, fits, strict=True):
        _draw_density(axes_column[0], fit, fps_hz, num_frames)
        _draw_cdf(axes_column[1], fit, fps_hz, num_frames)
        axes_column[1].set_xlabel("drop time (s)")
    grid[0, 0].set_ylabel("density (1/s)")
    grid[1, 0].set_ylabel("cumulative")
    handles = [h for axes in grid[:, 0] for h in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def sample_shares(fit: Fit, num_frames: int) -> np.ndarray:
    """Share of the samples in every frame ``0 ... num_frames``; the last is "no impact"."""
    counts = np.bincount(np.array(fit["frames"], dtype=int), minlength=num_frames + 1)
    return counts / counts.sum()


def drop_times_of(fit: Fit) -> DropTimes:
    """The analytic p(t | y) of an image (paper Eq. 4)."""
    low, high = fit["depth_range_m"]
    return DropTimes(DropRay(fit["slope"], fit["camera_height_m"]), (low, high))


def _draw_density(axes: Axes, fit: Fit, fps_hz: float, num_frames: int) -> None:
    samples = sample_shares(fit, num_frames)
    middles_s = (np.arange(num_frames + 1) - 0.5) / fps_hz
    seen, none = slice(0, num_frames), slice(num_frames, None)
    bars: dict[str, Any] = {
        "width": 1 / fps_hz,
        "color": style.SKY,
        "edgecolor": "white",
        "linewidth": 0.3,
    }
    axes.bar(middles_s[seen], samples[seen] * fps_hz, label="model", **bars)
    axes.bar(
        middles_s[none], samples[none] * fps_hz, **{**bars, "hatch": "////"}
    )  # not in the legend: the text below says it
    edges_s = np.arange(-1, num_frames + 1) / fps_hz
    shares = np.array(fit["shares"]) * fps_hz
    axes.stairs(shares, edges_s, color=style.ORANGE, label="truth in frames", linewidth=1.2)
    first_s, last_s = fit["bounds_s"]
    time_s = np.linspace(first_s, last_s, _CURVE_POINTS)
    axes.plot(time_s, drop_times_of(fit).pdf(time_s), color=style.GREEN, label="truth, Eq. 4")
    verdict = "passes" if fit["p_ks"] >= LEVEL else "fails"
    title = f"image {fit['image']}: {verdict}\nKS {fit['ks']:.2f}, p = {fit['p_ks']:.3f}"
    axes.set_title(title, color=style.GREEN if verdict == "passes" else style.RED)
    if samples[-1]:
        axes.annotate(
            "no impact", (middles_s[-1], samples[-1] * fps_hz), (0, 2), ha="right", fontsize=5.5,
            textcoords="offset points", color=style.GREY,
        )  # fmt: skip


def _draw_cdf(axes: Axes, fit: Fit, fps_hz: float, num_frames: int) -> None:
    frames_s = np.arange(num_frames) / fps_hz
    time_s = np.linspace(0, num_frames / fps_hz, _CURVE_POINTS)
    axes.plot(time_s, drop_times_of(fit).cdf(time_s), color=style.GREEN)
    truth, model = np.array(fit["shares"]), sample_shares(fit, num_frames)
    for shares, colour, label in (
        (truth, style.ORANGE, None),
        (model, style.BLUE, "model, summed"),
    ):
        sums = np.cumsum(shares)[:num_frames]
        axes.step(frames_s, sums, where="post", color=colour, label=label)
    axes.set_ylim(-0.02, 1.02)
