"""Runs of one experiment with several seeds: means, spread, and differences over clips and seeds.

python train.py -m experiment=oro_flow seed=0,1,2
pisa seeds runs/oro_flow-*
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pisa.bench.row import METRICS
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.metrics.statistics import Interval, crossed_ci
from pisa.reports.metrics_json import read_metrics
from pisa.reports.names import HIGHER_IS_BETTER, TRUTH, metric_label, model_label, split_label

_REFERENCES = (TRUTH, "frozen")


@dataclass(frozen=True)
class Seeds:
    """Scores ``[seeds, clips]`` by (model, split, metric); NaN where a clip has none."""

    seeds: tuple[int, ...]
    models: tuple[str, ...]
    splits: tuple[str, ...]
    values: Mapping[tuple[str, str, str], NDArray[np.floating]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    parser.add_argument("--out", type=Path, help="write the tables as Markdown, too")


def main(given: argparse.Namespace) -> None:
    text = markdown(read_seeds(given.runs))
    print(text)
    if given.out is not None:
        write_atomic(given.out, text.encode())


def read_seeds(folders: Sequence[Path]) -> Seeds:
    """The scores of the runs.

    Raises:
        PisaError: fewer than two runs, a seed that comes twice, or runs of other models, clips or
            protocols.
    """
    runs = [(f, read_metrics(f / "metrics.json" if f.is_dir() else f)) for f in folders]
    if len(runs) < 2:
        raise PisaError("one run has no spread over seeds: give the folders of two or more")
    seeds = [int(document["provenance"]["seed"]) for _, document in runs]
    if len(set(seeds)) < len(seeds):
        raise PisaError(f"the runs have the seeds {seeds}: every run must have a seed of its own")
    first = _keys(runs[0][1])
    for folder, document in runs[1:]:
        if _keys(document) != first:
            raise PisaError(
                f"{folder} has other models, clips or another protocol than {folders[0]}"
            )
    order = [row["model"] for row in runs[0][1]["per_clip"]]
    models = tuple(dict.fromkeys(name for name in order if name not in _REFERENCES))
    splits = tuple(dict.fromkeys(row["split"] for row in runs[0][1]["per_clip"]))
    values = {
        (model, split, metric): np.array(
            [_scores(document, model, split, metric) for _, document in runs]
        )
        for model in models
        for split in splits
        for metric in METRICS
    }
    return Seeds(tuple(seeds), models, splits, values)


def markdown(seeds: Seeds) -> str:
    """Means with each seed's own, and differences of each model to the one before it."""
    lines = [f"{len(seeds.seeds)} seeds: {', '.join(map(str, seeds.seeds))}", ""]
    lines += ["| model | set | metric | mean over seeds | each seed |", "|---|---|---|---|---|"]
    for (model, split, metric), scores in seeds.values.items():
        if np.isfinite(scores).any():
            own = np.nanmean(scores, axis=1)
            each = ", ".join(f"{value:.3f}" for value in own)
            cells = (model_label(model), split_label(split), metric_label(metric))
            lines.append(f"| {' | '.join(cells)} | {own.mean():.3f} | {each} |")
    lines += ["", "Differences, with 95 % intervals over clips and seeds; bold: off zero.", ""]
    lines += ["| difference | set | metric | mean | each seed |", "|---|---|---|---|---|"]
    for before, after in pairwise(seeds.models):
        for split in seeds.splits:
            for metric in METRICS:
                difference = (
                    seeds.values[after, split, metric] - seeds.values[before, split, metric]
                )
                if np.isfinite(difference).any():
                    pair = f"{model_label(after)} minus {model_label(before)}"
                    each = ", ".join(f"{value:+.3f}" for value in np.nanmean(difference, axis=1))
                    cell = _described(crossed_ci(difference, 0), metric)
                    line = (pair, split_label(split), metric_label(metric), cell, each)
                    lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def _described(interval: Interval, metric: str) -> str:
    text = f"{interval.mean:+.3f} [{interval.lo:+.3f}, {interval.hi:+.3f}]"
    if interval.lo <= 0 <= interval.hi:
        return text
    better = (interval.mean > 0) == (metric in HIGHER_IS_BETTER)
    return f"**{text}**{'' if better else ' worse'}"


def _keys(document: Mapping[str, Any]) -> tuple[str, set[tuple[str, str, str]]]:
    rows = {(row["model"], row["split"], row["clip"]) for row in document["per_clip"]}
    return document["protocol"], rows


def _scores(document: Mapping[str, Any], model: str, split: str, metric: str) -> list[float]:
    rows = [r for r in document["per_clip"] if r["model"] == model and r["split"] == split]
    values = [row.get(metric) for row in sorted(rows, key=lambda row: row["clip"])]
    return [float("nan") if value is None else float(value) for value in values]
