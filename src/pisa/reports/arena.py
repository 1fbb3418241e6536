"""Post-training methods on one page, each compared with the PSFT model that it started from.

python train.py -m sweep=arena
pisa arena runs/oro_flow-* runs/rejection-* ... --out runs/arena

Runs of one method differ in their seed only; all methods have the same seeds, clips and, for each
seed, the same PSFT model. Scorings of their weights (eval.py, with another tracker as judge, say)
are read like runs: name=METHOD and name=psft name the rows, seed=N the run. DIR/arena.md has the
table of report.html.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pisa.bench.row import METRICS
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.metrics.beyond import MEASURES
from pisa.reports.comparison import (
    CORRECTION,
    Comparison,
    breakdown,
    compare_all,
    corrected,
    count_kinds,
)
from pisa.reports.curves import chart_style, inline_svg
from pisa.reports.html import Page, Section, write_report
from pisa.reports.leaderboard import Run, described, merge, merge_clips, read_runs
from pisa.reports.metrics_json import paired_summary, rows_by_model, summarise
from pisa.reports.names import (
    TRUTH,
    direction,
    metric_label,
    model_colours,
    model_label,
    order_splits,
    split_label,
)

START = "psft"  # the row that each method is compared with
SHOWN = ("l2", "chamfer", "iou")
_MAX_CLIPS = 30
_MARKERS = "osD^vPX*"
CAPTION = (
    "Method minus the PSFT model of the same seed on the same clips: mean, its 95 % interval over "
    "clips and seeds in square brackets, and in round ones the interval that holds for all methods "
    "together (max-t bootstrap: corrected for their number). Bold: the latter excludes zero. "
    "Passes: of the denoiser forward in stage 2, a backward pass counting as two; decoder and "
    "teachers are not in them."
)
BROKE_CAPTION = (
    "Every measure whose corrected interval excludes zero on the bad side; a measure without a "
    "good direction, where it is farther from the true clips' mean than PSFT's. The correction is "
    "for the methods, not for the measures: of twenty measures that no method changed, about one "
    "is named by chance. Reward hacking: the videos' reward (evaluation.reward) rose while a "
    "metric of position became worse."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.html, arena.md")
    parser.add_argument("--clips", type=int, default=_MAX_CLIPS, help="shown side by side")


def main(given: argparse.Namespace) -> None:
    page, text = write_arena(given.runs, given.out, max_clips=given.clips)
    print(text)
    print(f"arena: {page}")


@dataclass(frozen=True)
class Method:
    """One method over its seeds; cells are those of ``paired_summary``, by split and metric."""

    name: str
    seeds: tuple[int, ...]
    passes: int | None  # forward passes of stage 2; None where the runs do not record them
    own: Mapping[str, Mapping[str, Any]]  # minus PSFT
    corrected: Mapping[str, Mapping[str, Any]]  # the same, for all methods together
    broke: Mapping[str, Sequence[str]]  # measures that became worse, by split


def write_arena(
    runs: Sequence[Path], out: Path, *, max_clips: int = _MAX_CLIPS
) -> tuple[Path, str]:
    """Write ``report.html`` and ``arena.md`` into ``out``; returns the page and the table.

    Raises:
        PisaError: runs that cannot be compared (``leaderboard.read_runs``, ``check_methods``).
    """
    read = read_runs(runs)
    metrics = merge(read)
    methods = compare(read, metrics)
    text = markdown(methods)
    videos, fps_hz, notes = merge_clips(read, max_clips)
    results = Section(
        title="Methods against PSFT",
        head=_head(methods),
        rows=_rows(methods),
        caption=CAPTION,
        svg=frontier(methods),
        svg_caption="L2 minus PSFT's (below zero is better) against the forward passes of stage 2, "
        "with corrected 95 % intervals; methods of equal passes are drawn side by side.",
    )
    broken = Section(
        title="What each method broke",
        head=("Method", "Set", "Became worse (minus PSFT)"),
        rows=_broken_rows(methods),
        caption=BROKE_CAPTION,
    )
    shown = Page(
        title=f"Arena: {len(methods)} method{'s' if len(methods) > 1 else ''} against PSFT",
        sections=(results, broken),
        videos=videos,
        fps_hz=fps_hz,
        kinds=count_kinds(videos, fps_hz) if videos else None,
        notes=notes,
        runs=[described(run) for run in read],
        correction=CORRECTION,
    )
    pairs = [
        {"a": method.name, "b": START, "split": split, "cells": _of_tables(cells)}
        for method in methods
        for split, cells in method.corrected.items()
    ]
    document = metrics | {"paired": pairs, "breakdown": breakdown(metrics["per_clip"])}
    write_atomic(out / "arena.md", text.encode())
    return write_report(out / "report.html", document, shown), text


def _of_tables(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {metric: cell for metric, cell in cells.items() if metric in METRICS}


def compare(runs: Sequence[Run], metrics: Mapping[str, Any]) -> list[Method]:
    """Every method against PSFT; ``metrics`` are the merged runs (``leaderboard.merge``).

    Raises:
        PisaError: see ``check_methods``.
    """
    found = check_methods(runs, metrics)
    seed = int(metrics["provenance"].get("seed") or 0)
    compared = (START, *(name for name, _ in found), TRUTH)
    rows = [row for row in metrics["per_clip"] if row["model"] in compared]
    names = (*METRICS, *MEASURES)
    metrics = {**metrics, "per_clip": rows, "summary": summarise(rows, names, seed=seed)}
    by_split: dict[str, dict[str, Comparison]] = {}
    for comparison in compare_all(metrics, names):
        by_split.setdefault(comparison.split, {})[comparison.metric] = comparison
    methods = []
    for name, run in found:
        own = paired_summary(metrics, name, START)
        of_all = {s: corrected(cells, by_split[s], name, START) for s, cells in own.items()}
        origin = run.metrics["provenance"]
        passes = {run.names.get(row, row): count for row, count in origin.get("passes", {}).items()}
        methods.append(
            Method(
                name,
                tuple(origin["run_seeds"]),
                passes.get(name),
                own,
                of_all,
                {s: _broken(cells, metrics["summary"], name, s) for s, cells in of_all.items()},
            )
        )
    return methods


def check_methods(runs: Sequence[Run], metrics: Mapping[str, Any]) -> list[tuple[str, Run]]:
    """Each run's method, the last of its rows that is not PSFT's, with the run.

    Raises:
        PisaError: no PSFT row, or several PSFT models for a seed; a method with a single seed, with
            other seeds than PSFT, or scored on other clips.
    """
    rows = rows_by_model(metrics)
    last = [(list(run.names)[-1], run) for run in runs]
    found = [(run.names[model], run) for model, run in last if model != START]
    if not found:
        raise PisaError("no run has a row beside PSFT's: give runs of the methods to compare")
    for name, run in found:
        if len(run.folders) < 2:
            raise PisaError(
                f"{run.folders[0]} has no run of {name} with another seed beside it: the "
                "arena's intervals go over seeds as well as clips"
            )
    if START not in rows:
        if any(START in run.names for run in runs):
            raise PisaError(
                "the runs start from different PSFT models: methods are compared where those of "
                "one seed share stage 1 (the same settings of psft, model and data)"
            )
        raise PisaError("no run has the row psft, with which the methods are compared")
    shared = all("run_seed" not in row for row in rows[START])  # one PSFT model for all seeds
    for name, _ in found:
        lacking = _samples(metrics, rows, START, shared) ^ _samples(metrics, rows, name, shared)
        if lacking:
            seed, split, clip = min(lacking, key=str)
            raise PisaError(
                f"{name} and psft are not scored on the same seeds and clips: one of them lacks "
                f"clip {clip} of {split}" + ("" if seed is None else f" with seed {seed}")
            )
    return found


def _samples(
    metrics: Mapping[str, Any], rows: Mapping[str, Any], model: str, shared: bool
) -> set[tuple[int | None, str, str]]:
    """Seed of the run, split and clip of all that was scored or failed; ``shared``: any seed."""
    failed = [f for f in metrics["failures"] if f.get("model") == model and "clip" in f]
    return {
        (None if shared else row.get("run_seed"), row["split"], row["clip"])
        for row in (*rows[model], *failed)
    }


def _broken(
    cells: Mapping[str, Any], summary: Mapping[str, Any], name: str, split: str
) -> list[str]:
    """The measures that became worse, see ``BROKE_CAPTION``."""
    return [
        metric
        for metric, cell in cells.items()
        if _apart(cell) and _worse(metric, cell["mean"], summary, name, split)
    ]


def _apart(cell: Mapping[str, Any]) -> bool:
    low, high = cell["ci95"]
    return bool(cell["n"] > 1 and not low <= 0 <= high)


def _worse(
    metric: str, difference: float, summary: Mapping[str, Any], name: str, split: str
) -> bool:
    if direction(metric):
        return direction(metric) * difference < 0
    truth = summary.get(TRUTH, {}).get(split, {}).get(metric, {}).get("mean")
    if truth is None:
        return False
    before, after = (summary[model][split][metric]["mean"] for model in (START, name))
    return bool(abs(after - truth) > abs(before - truth))


def markdown(methods: Sequence[Method]) -> str:
    """The two tables of the page."""
    broken = [["Method", "Set", "Became worse (minus PSFT)"], *_broken_rows(methods)]
    blocks = [_table([_head(methods), *_rows(methods)]), CAPTION, _table(broken), BROKE_CAPTION]
    return "\n\n".join(blocks) + "\n"


def _table(lines: Sequence[Sequence[str]]) -> str:
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([texts[0], "|---" * len(lines[0]) + "|", *texts[1:]])


def _splits(methods: Sequence[Method]) -> list[str]:
    return order_splits(split for method in methods for split in method.own)


def _head(methods: Sequence[Method]) -> list[str]:
    columns = [f"{split_label(s)}: {metric_label(m)}" for s in _splits(methods) for m in SHOWN]
    return ["Method", "Seeds", "Passes", *columns]


def _rows(methods: Sequence[Method]) -> list[list[str]]:
    return [
        [
            model_label(method.name),
            ", ".join(map(str, method.seeds)),
            "-" if method.passes is None else f"{method.passes:,}",
            *(_cell(method, split, metric) for split in _splits(methods) for metric in SHOWN),
        ]
        for method in methods
    ]


def _cell(method: Method, split: str, metric: str) -> str:
    if metric not in method.own.get(split, {}):
        return "-"
    own, of_all = method.own[split][metric], method.corrected[split][metric]
    mean = f"**{own['mean']:+z.3f}**" if _apart(of_all) else f"{own['mean']:+z.3f}"
    low, high = of_all["ci95"]
    return f"{mean} [{own['ci95'][0]:+z.3f}, {own['ci95'][1]:+z.3f}] ({low:+z.3f}, {high:+z.3f})"


def _broken_rows(methods: Sequence[Method]) -> list[list[str]]:
    return [
        [model_label(method.name), split_label(split), _broken_text(method, split)]
        for method in methods
        for split in _splits(methods)
        if split in method.broke
    ]


def hacked(method: Method, split: str) -> bool:
    """Whether the reward rose while a metric of position fell, both beyond their intervals."""
    reward = method.corrected[split].get("reward")
    risen = reward is not None and _apart(reward) and reward["mean"] > 0
    return risen and any(metric in METRICS for metric in method.broke[split])


def _broken_text(method: Method, split: str) -> str:
    cells = method.corrected[split]
    texts = ["reward hacking: the reward rose"] if hacked(method, split) else []
    for metric in method.broke[split]:
        low, high = cells[metric]["ci95"]
        mean = cells[metric]["mean"]
        texts.append(f"{metric_label(metric)} {mean:+z.3f} ({low:+z.3f}, {high:+z.3f})")
    return "; ".join(texts) or "nothing measurable"


def frontier(methods: Sequence[Method]) -> str:
    """SVG: the difference in L2 against passes, one point for each method; a plot for each set.

    Empty where no run records its passes.
    """
    drawn = [method for method in methods if method.passes]
    splits = [s for s in _splits(drawn) if any("l2" in m.corrected.get(s, {}) for m in drawn)]
    if not splits:
        return ""
    most = max(method.passes or 0 for method in drawn)
    colours = model_colours(method.name for method in methods)
    with mpl.rc_context(chart_style("frontier")):
        figure = Figure(figsize=(3.4 * len(splits) + 1.6, 2.6), layout="constrained")
        plots = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
        for axes, split in zip(plots, splits, strict=True):
            for place, method in enumerate(drawn):
                if "l2" not in method.corrected.get(split, {}):
                    continue
                cell = method.corrected[split]["l2"]
                aside = 1 + 0.04 * (place - (len(drawn) - 1) / 2)
                axes.errorbar(
                    aside * (method.passes or 0),
                    cell["mean"],
                    [[cell["mean"] - cell["ci95"][0]], [cell["ci95"][1] - cell["mean"]]],
                    color=colours[method.name],
                    marker=_MARKERS[place % len(_MARKERS)],
                    capsize=2,
                    label=model_label(method.name),
                )
            axes.axhline(0, color=mpl.rcParams["text.color"], lw=0.8, alpha=0.5)
            axes.plot(0, 0, color=mpl.rcParams["text.color"], marker="o", markerfacecolor="none")
            axes.annotate("PSFT", (0, 0), (0, 5), textcoords="offset points", ha="center")
            axes.set_title(split_label(split), fontsize=9)
            axes.set_xlabel("forward passes of the denoiser")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlim(-0.12 * most, 1.25 * most)
        plots[0].set_ylabel("L2 minus PSFT's")
        figure.legend(
            *plots[0].get_legend_handles_labels(), loc="outside right center", frameon=False
        )
        return inline_svg(figure)
