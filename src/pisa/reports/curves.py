"""Learning curves: read Lightning's CSVLogger files and draw them as inline SVG."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pisa.errors import PisaError
from pisa.reports.names import REFERENCES, metric_label, model_label, order_models, split_label

Curve = Sequence[tuple[float, float]]
_NOT_CURVES = ("step", "epoch")
_INK = "#0a0b0c"  # stands for the page's text colour until the SVG is inlined
_LINE = "#0072b1"
_MAX_POINTS = 300
_TITLES = {
    "train/reward": "reward in training",
    "val/reward": "reward in validation",
    "train/loss": "training loss",
    "val/loss": "validation loss",
    "train/gradient_norm": "gradient norm",
}
_FEW = 5  # fewer points than this show no course


@dataclass(frozen=True)
class Chart:
    """One drawn curve. ``note`` says what a reader can't see: averaging, missing values."""

    name: str
    svg: str
    last_value: float | None
    last_step: float
    note: str


def read_csv_logger(path: Path | str) -> dict[str, list[tuple[int, float]]]:
    """``{metric: [(step, value), ...]}`` of a Lightning ``metrics.csv``, in step order.

    Empty cells (metrics logged at other steps) are skipped, logged NaNs are kept.
    Raises ``PisaError`` naming file and line when it cannot be read.
    """
    path = Path(path)
    curves: dict[str, list[tuple[int, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if "step" not in (reader.fieldnames or ()):
                raise PisaError(f"{path}: no column 'step'; is this a CSVLogger file?")
            for row in reader:
                for name, value in row.items():
                    if name not in _NOT_CURVES and value:
                        curves.setdefault(name, []).append((int(row["step"]), float(value)))
    except OSError as error:
        raise PisaError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise PisaError(f"{path}, line {reader.line_num}: {error}") from error
    return {name: sorted(points, key=lambda p: p[0]) for name, points in curves.items()}


def titled(
    curves: Mapping[str, Curve], summary: Mapping[str, Any]
) -> tuple[dict[str, Curve], dict[str, float]]:
    """Curves "MODEL KEY" under titles that a reader understands, and their values at step 0.

    Those are the scores of the model that training started from, the row before in ``summary``.
    Other names stay as they are.
    """
    rows = [m for m in order_models(summary) if m not in REFERENCES]
    shown: dict[str, Curve] = {}
    starts: dict[str, float] = {}
    for name, curve in curves.items():
        model, _, key = name.partition(" ")
        group, _, rest = key.partition("/")
        split, _, metric = rest.partition("/")
        if key in _TITLES:
            shown[f"{model_label(model)}: {_TITLES[key]}"] = curve
        elif group == "pisabench" and metric:
            title = f"{model_label(model)}: {metric_label(metric)}, {split_label(split)}"
            shown[title] = curve
            place = rows.index(model) if model in rows else 0
            before = rows[place - 1] if place else ""
            mean = summary.get(before, {}).get(split, {}).get(metric, {}).get("mean")
            starts |= {} if mean is None else {title: mean}
        else:
            shown[name] = curve
    return shown, starts


def draw_charts(
    curves: Mapping[str, Curve], starts: Mapping[str, float] | None = None
) -> list[Chart]:
    """One small chart per curve; curves without a point are left out.

    ``starts``: a value at step 0 by curve, that of the model that training started from.
    """
    starts = starts or {}
    return [_draw(name, curve, starts.get(name)) for name, curve in curves.items() if len(curve)]


def _draw(name: str, curve: Curve, start: float | None) -> Chart:
    steps, values, window = average_windows(curve, _MAX_POINTS)
    missing = sum(not math.isfinite(value) for _, value in curve)
    notes = [f"each point is the mean of {window} logged values"] if window > 1 else []
    notes += [f"{missing} of {len(curve)} values are not finite"] if missing else []
    notes += ["hollow: before training, on all clips"] if start is not None else []
    last = curve[-1][1]
    return Chart(
        name=name,
        svg=_svg(name, steps, values, start),
        last_value=last if math.isfinite(last) else None,
        last_step=curve[-1][0],
        note="; ".join(notes),
    )


def average_windows(curve: Curve, max_points: int) -> tuple[list[float], list[float], int]:
    """Steps, values and window length; non-finite values leave a gap (NaN), never a mean."""
    window = math.ceil(len(curve) / max_points)
    steps, values = [], []
    for start in range(0, len(curve), window):
        part = curve[start : start + window]
        steps.append(part[-1][0])
        mean = math.fsum(v for _, v in part if math.isfinite(v)) / len(part)
        values.append(mean if all(math.isfinite(v) for _, v in part) else math.nan)
    return steps, values, window


def chart_style(name: str) -> dict[Any, Any]:
    """Matplotlib's settings of a chart that ``inline_svg`` puts on a page."""
    inks = ("text.color", "xtick.color", "ytick.color", "axes.edgecolor", "axes.labelcolor")
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    return style | dict.fromkeys(inks, _INK)


def _svg(name: str, steps: Sequence[float], values: Sequence[float], start: float | None) -> str:
    """A few points are drawn as points, on an axis that includes zero: no line between them."""
    with mpl.rc_context(chart_style(name)):
        figure = Figure(figsize=(3.5, 1.9), layout="constrained")
        axes = figure.add_subplot()
        few = len(steps) < _FEW
        axes.plot(steps, values, color=_LINE, lw=0 if few else 1.6, marker="o" if few else "")
        if start is not None:
            axes.plot(0, start, color=_LINE, marker="o", markerfacecolor="none")
        if few:
            _include_zero(axes, steps, [*values, *([] if start is None else [start])])
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("step")
        return inline_svg(figure)


def _include_zero(axes: Axes, steps: Sequence[float], values: Sequence[float]) -> None:
    """Limits that hold zero and every point, with room around the markers."""
    low = min([0.0, *(value for value in values if math.isfinite(value))])
    high = max([0.0, *(value for value in values if math.isfinite(value))])
    room = 0.12 * ((high - low) or 1.0)
    axes.set_ylim(low - (room if low < 0 else 0.0), high + (room if high > 0 else 0.0))
    axes.set_xlim(-0.06 * max([1.0, *steps]), 1.06 * max([1.0, *steps]))


def inline_svg(figure: Figure) -> str:
    """SVG text for an HTML page: no prologue, no outside address, the page's text colour."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # charts share a page: keep ids unique
    text = re.sub(r'(?<= )(width|height)="[^"]*pt" ', "", text, count=2)  # CSS sets the size
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # would style the page
    text = text.replace("<svg ", '<svg aria-hidden="true" ', 1)
    return text.replace(_INK, "currentColor").replace(_LINE, "var(--line)")
