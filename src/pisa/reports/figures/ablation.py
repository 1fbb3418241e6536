"""Figure 5: scores over training steps, with and without pre-training, and over training clips."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pisa.errors import PisaError
from pisa.io.provenance import SETTINGS, settings_of
from pisa.reports.curves import read_csv_logger
from pisa.reports.figures import style
from pisa.reports.figures.style import Origin, origin_of, together
from pisa.reports.metrics_json import read_metrics
from pisa.reports.names import metric_arrow, metric_label, order_splits, split_label
from pisa.reports.published import published_table_1
from pisa.reports.seeds import by_experiment, join_seeds

METRICS = ("l2", "chamfer", "iou")  # (a), (b), (c)
SIZE_METRIC = "l2"  # (d)
_COLOURS = {"pre-trained": style.BLUE, "random": style.RED, "unknown": style.GREY}
_DASHES = ("-", "--", ":")
_APART = 0.015  # of the abscissa, from one test set's markers to the next one's
_MARKERS = ("o", "s", "^")
_PSFT_ROW = "Open-Sora + PSFT (base)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--no-published", action="store_true", help="leave out the paper's lines")
    style.add_out(parser, "figure5")


def main(given: argparse.Namespace) -> None:
    runs = over_seeds([read_run(path) for path in given.runs])
    origin = together(run.origin for run in runs)
    style.write(
        given.out,
        origin,
        lambda: draw(runs, published=not given.no_published),
        title="Figure 5: ablations of PSFT",
        notes=_notes(runs),
    )


def draw(runs: Sequence[RunLog], *, published: bool = True) -> Figure:
    """(a) to (c) over steps, (d) over numbers of clips. Raises ``PisaError`` without any score."""
    splits = order_splits(s for run in runs for s in [*run.scores, *(k[0] for k in run.curves)])
    if not splits:
        raise PisaError("none of these runs has a score of PisaBench to draw")
    figure = style.new_figure(style.TEXT_IN, 3.9)
    grid = figure.subplots(2, 2)
    size = _common([run.train_clips for run in runs])
    for letter, axes, metric in zip("abc", grid.flat, METRICS, strict=False):
        for index, split in enumerate(splits):
            _draw_steps(axes, [r for r in runs if r.train_clips == size], split, index, metric)
            if published and metric != "iou":  # which grows with the size of the object
                _draw_published(axes, split, index, metric)
        axes.set_title(f"({letter}) {metric_label(metric)} {metric_arrow(metric)}", loc="left")
        axes.set_xlabel("training steps")
        axes.set(xlim=(0, 1.05 * axes.dataLim.x1), ylim=(0, 1.08 * axes.dataLim.y1))
    _draw_sizes(grid[1, 1], runs, splits)
    handles = _legend(runs, splits, published)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def steps_of(runs: Sequence[RunLog], split: str, metric: str) -> list[tuple[int, dict[str, Any]]]:
    """Final scores ``(steps, {"mean", "ci95", "n"})`` of runs, by length."""
    found = [
        (run.max_steps, run.scores[split][metric])
        for run in runs
        if run.max_steps is not None and run.scores.get(split, {}).get(metric, {}).get("n")
    ]
    return sorted(found, key=lambda pair: pair[0])


def sizes_of(runs: Sequence[RunLog], split: str) -> list[tuple[int, dict[str, Any]]]:
    """Final scores ``(clips, cell)`` of pre-trained runs of one length, by number of clips."""
    length = _common([run.max_steps for run in runs if run.initialisation == "pre-trained"])
    found = [
        (run.train_clips, run.scores[split][SIZE_METRIC])
        for run in runs
        if run.initialisation == "pre-trained"
        and run.max_steps == length
        and run.train_clips is not None
        and run.scores.get(split, {}).get(SIZE_METRIC, {}).get("n")
    ]
    return sorted(found, key=lambda pair: pair[0])


def _draw_steps(axes: Axes, runs: Sequence[RunLog], split: str, index: int, metric: str) -> None:
    """Thin: validation during a run; with intervals: final scores of runs of several lengths."""
    for kind in dict.fromkeys(run.initialisation for run in runs):
        chosen = [run for run in runs if run.initialisation == kind]
        look: dict[str, Any] = {"color": _COLOURS[kind], "linestyle": _DASHES[index % len(_DASHES)]}
        for run in chosen:
            points = run.curves.get((split, metric), [])
            if len(points) > 1:  # a single point makes no curve
                mark: dict[str, Any] = {"marker": _MARKERS[index % len(_MARKERS)], "markersize": 2}
                mark["markerfacecolor"] = "white" if index else look["color"]
                axes.plot(*zip(*points, strict=True), linewidth=0.6, **mark, **look)
        _draw_scores(axes, steps_of(chosen, split, metric), index, look)


def _draw_sizes(axes: Axes, runs: Sequence[RunLog], splits: Sequence[str]) -> None:
    length = _common([run.max_steps for run in runs if run.initialisation == "pre-trained"])
    steps = f", {length:,} steps each" if length else ""
    axes.set_title(
        f"(d) {metric_label(SIZE_METRIC)} {metric_arrow(SIZE_METRIC)}{steps}", loc="left"
    )
    axes.set_xlabel("training clips")
    sizes: set[int] = set()
    for index, split in enumerate(splits):
        found = sizes_of(runs, split)
        look: dict[str, Any] = {"color": style.BLUE, "linestyle": _DASHES[index % len(_DASHES)]}
        _draw_scores(axes, found, index, look)
        sizes |= {clips for clips, _ in found}
    if sizes:
        axes.set_ylim(bottom=0)
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
        axes.set_xticks(sorted(sizes), [f"{size:,}" for size in sorted(sizes)])
        axes.minorticks_off()
    else:
        axes.set(xticks=[], yticks=[])
    if len(sizes) < 2:
        axes.text(0.5, 0.1, "no runs of other sizes given", ha="center", transform=axes.transAxes)


def _draw_scores(
    axes: Axes, found: Sequence[tuple[int, dict[str, Any]]], index: int, look: dict[str, Any]
) -> None:
    if not found:
        return
    places = [place * (1 + _APART * index) for place, _ in found]  # or one set hides the other
    means = [cell["mean"] for _, cell in found]
    ends = [cell["ci95"] if cell["n"] > 1 else [cell["mean"]] * 2 for _, cell in found]
    below = [mean - low for mean, (low, _) in zip(means, ends, strict=True)]
    above = [high - mean for mean, (_, high) in zip(means, ends, strict=True)]
    filled: dict[str, Any] = {"markerfacecolor": "white" if index else look["color"]}
    axes.errorbar(
        places, means, yerr=[below, above], marker=_MARKERS[index % len(_MARKERS)], markersize=4,
        capsize=2, elinewidth=0.8, **filled, **look,
    )  # fmt: skip


def _draw_published(axes: Axes, split: str, index: int, metric: str) -> None:
    row = next(row for row in published_table_1() if row.label == _PSFT_ROW)
    if split in row.scores:
        dash = _DASHES[index % len(_DASHES)]
        axes.axhline(row.scores[split][metric], color=style.PALE, linewidth=1.0, linestyle=dash)


def _legend(runs: Sequence[RunLog], splits: Sequence[str], published: bool) -> list[Line2D]:
    kinds = dict.fromkeys(run.initialisation for run in runs)
    names = {"random": "random initialisation", "unknown": "unknown initialisation"}
    lines = [Line2D([], [], color=_COLOURS[k], label=names.get(k, k)) for k in kinds]
    for index, split in enumerate(splits):
        look: dict[str, Any] = {
            "linestyle": _DASHES[index % 3],
            "marker": _MARKERS[index % 3],
            "markersize": 4,
        }
        fill = "white" if index else style.INK
        label = split_label(split)
        lines.append(Line2D([], [], color=style.INK, label=label, markerfacecolor=fill, **look))
    if any(len(points) > 1 for run in runs for points in run.curves.values()):
        thin: dict[str, Any] = {"linewidth": 0.6, "marker": "o", "markersize": 2}
        lines.append(Line2D([], [], color=style.GREY, label="during training", **thin))
    if published:
        lines.append(Line2D([], [], color=style.PALE, label="paper's PSFT (published)"))
    return lines


def _notes(runs: Sequence[RunLog]) -> str:
    cells = [c for run in runs for by_metric in run.scores.values() for c in by_metric.values()]
    counts = sorted({cell["n"] for cell in cells})
    scored = f" (n = {' or '.join(map(str, counts))} clips)" if counts else ""
    numbers = sorted({len(cell.get("seeds", "1")) for cell in cells} or {1})
    seeds = (
        f"Seeds of each: {' or '.join(map(str, numbers))}" if numbers != [1] else "One seed each"
    )
    return (
        "Thin lines: validation during training (few clips: docs/guide/figures.md). "
        f"Large markers: final scores with 95 % intervals{scored}, the sets side by side. "
        f"{seeds}. The paper's IoU is left out: it grows with the size of the objects."
    )


def _common(values: Sequence[int | None]) -> int | None:
    """The most frequent value, the largest of equals; None without any."""
    counts = Counter(value for value in values if value is not None)
    return max(counts, key=lambda value: (counts[value], value), default=None)


_PREFIX = "pisabench/"

Points = list[tuple[int, float]]
Curves = dict[str, Points]


@dataclass(frozen=True)
class RunLog:
    """``curves[split, metric]``: (optimiser steps taken, mean); ``scores``: a model's summary."""

    name: str
    initialisation: str  # "pre-trained", "random" or "unknown"
    train_clips: int | None
    max_steps: int | None
    curves: Mapping[tuple[str, str], Points]
    scores: Mapping[str, Mapping[str, Any]]
    origin: Origin
    row: str | None = None  # the model's name in ``metrics``
    metrics: Mapping[str, Any] | None = None  # the run's whole metrics.json


def read_run(path: Path) -> RunLog:
    """Raises ``PisaError`` where there is no log, or none of PisaBench."""
    if not path.is_dir():
        raise PisaError(f"{path}: no such run folder")
    settings, curves = _read_folder(path)
    metrics = read_metrics(path / "metrics.json") if (path / "metrics.json").is_file() else None
    origin = Origin() if metrics is None else origin_of(metrics["provenance"])
    scores = {} if metrics is None else metrics["summary"].get(settings.get("name"), {})
    run = _run(path.name, settings, curves, scores, origin)
    return replace(run, row=settings.get("name"), metrics=metrics)


def over_seeds(runs: Sequence[RunLog]) -> list[RunLog]:
    """Runs that differ in their seed have one final score, at the first; each keeps its curves."""
    found = [run for run in runs if run.metrics is None]
    for group in by_experiment([(run, run.metrics) for run in runs if run.metrics is not None]):
        first, *others = (run for run, _ in group)
        if others:
            summary = join_seeds([document for _, document in group])["summary"]
            first = replace(first, scores=summary.get(first.row or "", {}))
        found += [first, *(replace(other, scores={}) for other in others)]
    return found


def _read_folder(folder: Path) -> tuple[dict[str, Any], Curves]:
    """Settings from config.yaml, else from the log's; curves from the CSV log."""
    log = folder / "csv" / "metrics.csv"
    curves: Curves = read_csv_logger(log) if log.is_file() else {}
    if not curves and not (folder / "metrics.json").is_file():
        raise PisaError(f"{folder}: holds no csv/metrics.csv and no metrics.json")
    if (folder / "config.yaml").is_file():
        return _settings_in(folder / "config.yaml"), curves
    config: Mapping[str, Any] = {}
    if (folder / "csv" / "hparams.yaml").is_file():  # of a first stage, which has no config.yaml
        config = _hyperparameters(folder / "csv" / "hparams.yaml")
    return dict(config.get(SETTINGS, {})), curves


def _hyperparameters(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise PisaError(f"{path}: cannot read ({error})") from error


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return settings_of(config, config["stages"][0])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise PisaError(f"{path}: is not the configuration of a training run ({error})") from error


def _run(
    name: str,
    settings: Mapping[str, Any],
    logged: Mapping[str, Points],
    scores: Mapping[str, Any],
    origin: Origin,
) -> RunLog:
    curves = {
        (split, metric): [(step + 1, value) for step, value in points]  # logged from 0
        for key, points in logged.items()
        if key.startswith(_PREFIX) and key.count("/") == 2 and not key.endswith("n")
        for split, metric in [key.removeprefix(_PREFIX).split("/")]
    }
    if not curves and not scores:
        raise PisaError(f"{name}: its log holds no scores of PisaBench (callbacks.pisabench)")
    return RunLog(
        name=name,
        initialisation=settings.get("initialisation", "unknown"),
        train_clips=settings.get("train_clips"),
        max_steps=settings.get("max_steps"),
        curves=curves,
        scores=scores,
        origin=origin,
    )
