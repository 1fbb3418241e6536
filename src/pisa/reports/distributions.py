"""Histograms of a data set's scenes with the prior's density over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pisa.reports.curves import inline_svg
from pisa.simulation.scene import Prior
from pisa.simulation.statistics import LABELS, Values, prior_ranges

GREY, BLUE, RED = "#808890", "#3b8bc0", "#d0603a"


@dataclass(frozen=True)
class Distribution:
    """One chart: what it shows, how far from the prior it is, an inline SVG."""

    label: str
    note: str
    svg: str


def draw_distributions(
    values: Values, prior: Prior, p_values: Mapping[str, float]
) -> Iterator[Distribution]:
    """One chart per key that has values."""
    ranges = prior_ranges(prior)
    for key, label in LABELS.items():
        sample = values[key]
        if len(sample) == 0:
            continue
        figure = Figure(figsize=(3.6, 1.9), layout="constrained")
        axes = figure.add_subplot()
        width = _histogram(axes, sample, whole=key.startswith("num_"))
        note = f"{len(sample)} values, mean {sample.mean():.2f}"
        if key in ranges:
            _prior(axes, len(sample) * width, ranges[key], whole=key.startswith("num_"))
            note += f"; against the prior (red): p = {p_values[key]:.2f}"
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
            yield Distribution(label, note, inline_svg(figure))


def _histogram(axes: Axes, sample: NDArray[np.floating], *, whole: bool) -> float:
    """Draws the bars; returns the width of a bin."""
    if whole:
        numbers, counts = np.unique(sample, return_counts=True)
        axes.bar(numbers, counts, width=0.8, color=BLUE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        width = 1.0
    else:
        _, edges, _ = axes.hist(sample, bins=15, color=BLUE)
        width = float(edges[1] - edges[0])
    axes.tick_params(colors=GREY, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    return width


def _prior(axes: Axes, area: float, limits: tuple[float, float], *, whole: bool) -> None:
    low, high = limits
    if whole:
        expected = area / (high - low + 1)
        low, high = low - 0.4, high + 0.4
    else:
        expected = area / (high - low)
    axes.plot([low, low, high, high], [0, expected, expected, 0], color=RED, linewidth=1.5)
