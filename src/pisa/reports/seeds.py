"""Runs of one experiment with several seeds, joined into one: mean, spread, per-clip pairs.

python train.py -m experiment=oro_flow seed=0,1,2
pisa seeds runs/oro_flow-* --out runs/oro_flow-seeds

The folder it writes is read like a run's: by the leaderboard, the figures and the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.reports.comparison import with_details
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import (
    build_metrics,
    paired_summary,
    read_metrics,
    rows_by_model,
    write_metrics,
)
from pisa.reports.names import HIGHER_IS_BETTER, REFERENCES, metric_label, model_label, split_label
from pisa.reports.panels import read_report_clips

DIFFERS = "differs between the runs"
Run = TypeVar("Run")  # a folder, or what was read from it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    parser.add_argument("--out", type=Path, help="folder for the joined run and seeds.md")


def main(given: argparse.Namespace) -> None:
    runs = [(f, read_metrics(f / "metrics.json" if f.is_dir() else f)) for f in given.runs]
    check_seeds(runs)
    runs.sort(key=lambda run: int(run[1]["provenance"]["seed"]))
    joined = join_seeds([document for _, document in runs])
    text = markdown(joined)
    print(text)
    if given.out is not None:
        write_metrics(given.out / "metrics.json", joined)
        write_atomic(given.out / "seeds.md", text.encode())
        if (given.runs[0] / "config.yaml").is_file():  # figure 5 reads steps and clips in it
            config = (given.runs[0] / "config.yaml").read_bytes()
            write_atomic(given.out / "config.yaml", config)
        page = given.runs[0] / "report.html"
        videos, fps_hz = read_report_clips(page) if page.is_file() else ([], 16.0)
        shown = Page(title=f"PisaBench: {len(runs)} seeds", videos=videos, fps_hz=fps_hz)
        print(f"report: {write_report(given.out / 'report.html', joined, shown)}")


def check_seeds(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Raises ``PisaError`` for runs that are not one experiment with different seeds.

    These are fewer than two runs, a seed that comes twice, and other models, clips or protocols.
    """
    if len(runs) < 2:
        raise PisaError("one run has no spread over seeds: give the folders of two or more")
    seeds = [int(document["provenance"]["seed"]) for _, document in runs]
    if len(set(seeds)) < len(seeds):
        raise PisaError(f"the runs have the seeds {seeds}: every run must have a seed of its own")
    for folder, document in runs[1:]:
        if _keys(document) != _keys(runs[0][1]):
            raise PisaError(
                f"{folder} has other models, clips or another protocol than {runs[0][0]}"
            )


def by_experiment(
    runs: Sequence[tuple[Run, Mapping[str, Any]]],
) -> list[list[tuple[Run, Mapping[str, Any]]]]:
    """Runs in groups that differ in their seed only, each in the order of their seeds.

    A run that records no experiment is alone.
    """
    groups: dict[Any, list[tuple[Run, Mapping[str, Any]]]] = {}
    for index, (run, document) in enumerate(runs):
        origin = document["provenance"]
        key: Any = origin.get("experiment_sha256")
        key = index if key is None else (key, repr(_keys(document)[0]))
        others = groups.get(key, [])
        if any(other["provenance"]["seed"] == origin["seed"] for _, other in others) or (
            others and _keys(others[0][1]) != _keys(document)
        ):
            key = index
        groups.setdefault(key, []).append((run, document))
    return [
        sorted(group, key=lambda run: run[1]["provenance"]["seed"]) for group in groups.values()
    ]


def join_seeds(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One document of runs that differ in their seed, with paired differences.

    Rows carry the seed of their run as ``run_seed``, which makes means and intervals go over runs
    as well as clips. The rows of a model that every run scored alike (the references, a base model
    that no seed changes) count once.
    """
    rows: list[dict[str, Any]] = []
    by_run = [rows_by_model(document) for document in documents]
    seeds = [int(document["provenance"]["seed"]) for document in documents]
    for model, first in by_run[0].items():
        if all(own[model] == first for own in by_run[1:]):
            rows += [dict(row) for row in first]
            continue
        for own, seed in zip(by_run, seeds, strict=True):
            rows += [{**row, "run_seed": seed} for row in own[model]]
    failures = [
        {**failure, "run_seed": seed}
        for document, seed in zip(documents, seeds, strict=True)
        for failure in document["failures"]
        if "metric" not in failure  # those are found again in the rows
    ]
    origin = common_provenance([document["provenance"] for document in documents])
    return with_details(
        build_metrics(
            rows,
            failures,
            protocol=documents[0]["protocol"],
            provenance=origin | {"run_seeds": seeds},
        )
    )


def common_provenance(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance that all runs share, with the first one's seed and versions."""
    first = dict(provenances[0])
    for key in ("commit", "config_sha256", "data_sha256"):
        if any(other.get(key) != first.get(key) for other in provenances):
            first[key] = DIFFERS
    return first


def markdown(joined: Mapping[str, Any]) -> str:
    """Means with each seed's own, and differences of each model to the one before it."""
    seeds = joined["provenance"]["run_seeds"]
    lines = [f"{len(seeds)} seeds: {', '.join(map(str, seeds))}", ""]
    lines += ["| model | set | metric | mean over seeds | each seed |", "|---|---|---|---|---|"]
    models = [model for model in joined["summary"] if model not in REFERENCES]
    for model in models:
        for split, cells in joined["summary"][model].items():
            for metric, cell in cells.items():
                if cell["mean"] is not None:
                    low, high = cell["ci95"]
                    names = (model_label(model), split_label(split), metric_label(metric))
                    mean = f"{cell['mean']:.3f} [{low:.3f}, {high:.3f}]"
                    each = _each(cell, ".3f") or "all alike"
                    lines.append(f"| {' | '.join((*names, mean, each))} |")
    lines += ["", "Intervals: 95 %, over clips and seeds. Bold: a difference that excludes zero."]
    lines += ["", "| difference | set | metric | mean | each seed |", "|---|---|---|---|---|"]
    for before, after in pairwise(models):
        for split, cells in paired_summary(joined, after, before).items():
            for metric, cell in cells.items():
                pair = f"{model_label(after)} minus {model_label(before)}"
                names = (pair, split_label(split), metric_label(metric))
                each = _each(cell, "+.3f") or "one pair"
                lines.append(f"| {' | '.join(names)} | {_described(cell, metric)} | {each} |")
    return "\n".join(lines) + "\n"


def _each(cell: Mapping[str, Any], form: str) -> str:
    """The mean of each run's own, where a cell is over several."""
    return ", ".join(format(value, form) for value in cell.get("seeds", {}).values())


def _described(cell: Mapping[str, Any], metric: str) -> str:
    low, high = cell["ci95"]
    text = f"{cell['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low <= 0 <= high:
        return text
    better = (cell["mean"] > 0) == (metric in HIGHER_IS_BETTER)
    return f"**{text}**{'' if better else ' worse'}"


def _keys(document: Mapping[str, Any]) -> tuple[str, set[tuple[str, str, str]]]:
    rows = {(row["model"], row["split"], row["clip"]) for row in document["per_clip"]}
    return document["protocol"], rows
