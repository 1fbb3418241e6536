"""Several runs on one page: ranking, paired differences, kinds of failure, clips side by side."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pisa.bench.row import comparable
from pisa.errors import PisaError
from pisa.reports.comparison import CORRECTION, against_best, breakdown, compare_all, count_kinds
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import build_metrics, read_metrics, rows_by_model
from pisa.reports.names import REFERENCES, model_label, split_label
from pisa.reports.panels import read_report_clips
from pisa.reports.published import published_elsewhere, published_table_1
from pisa.reports.seeds import by_experiment, common_provenance, join_seeds
from pisa.reports.table import print_table

_MAX_CLIPS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, help="folders with a metrics.json")
    parser.add_argument("--out", type=Path, default=Path("leaderboard.html"))
    parser.add_argument("--clips", type=int, default=_MAX_CLIPS, help="shown side by side")
    parser.add_argument("--no-published", action="store_true", help="leave out published rows")


def main(given: argparse.Namespace) -> None:
    published = () if given.no_published else published_table_1()
    page = write_leaderboard(given.runs, given.out, max_clips=given.clips, published=published)
    print(f"leaderboard: {page}")


@dataclass(frozen=True)
class Run:
    """One document and, by the name in it, the name of each model on the page.

    Runs that differ in their seed only are one, with a folder each.
    """

    folders: tuple[Path, ...]
    metrics: Mapping[str, Any]
    names: Mapping[str, str]


def write_leaderboard(
    runs: Sequence[Path],
    out: Path,
    *,
    max_clips: int = _MAX_CLIPS,
    published: Sequence[Any] = (),
) -> Path:
    """Merge and write the page.

    Raises:
        PisaError: a run that cannot be read, or runs that cannot be compared (``read_runs``).
    """
    read = read_runs(runs)
    metrics = merge(read)
    compared = compare_all(metrics)
    ranks = [c.line() for c in compared if c.metric == "l2"]
    videos, fps_hz, notes = merge_clips(read, max_clips)
    print_table(metrics, published=published)
    print("\n".join([CORRECTION, *ranks]) if ranks else "one model: no ranks")
    if published:
        lines = [line for other in published_elsewhere() for line in other.lines()]
        print("\n".join(["Published under other protocols, not comparable:", *lines]))
    return write_report(
        out,
        metrics
        | {
            "paired": against_best(metrics, compared),
            "breakdown": breakdown(metrics["per_clip"]),
        },
        Page(
            title=f"PisaBench leaderboard: {len(runs)} run{'s' if len(runs) > 1 else ''}",
            videos=videos,
            published=published,
            fps_hz=fps_hz,
            kinds=count_kinds(videos, fps_hz) if videos else None,
            notes=[*_data_notes(read), *ranks, *notes],
            ranked=True,
            runs=[described(run) for run in read],
            correction=CORRECTION,
        ),
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs; models of one name are distinguished by their folders where their scores differ.

    Runs of one experiment with different seeds are joined (``pisa.reports.seeds``). Raises
    ``PisaError`` for a run that is given twice, and for runs whose protocol, tracker, clips or
    compared frames differ (``pisa.bench.row.comparable``).
    """
    if len({folder.resolve() for folder in folders}) != len(folders):
        raise PisaError("a run is given twice")
    documents = [(f, read_metrics(f / "metrics.json" if f.is_dir() else f)) for f in folders]
    for (one, a), (two, b) in combinations(documents, 2):
        if reason := _refusal(a, b):
            raise PisaError(f"{one} and {two} cannot share a table: {reason}")
    groups = by_experiment(documents)
    places = [tuple(f if f.is_dir() else f.parent for f, _ in group) for group in groups]
    joined = [
        join_seeds([document for _, document in group]) if len(group) > 1 else group[0][1]
        for group in groups
    ]
    rows = [rows_by_model(document) for document in joined]
    names = [{model: model for model in own} for own in rows]
    for model in {m for own in rows for m in own if m not in REFERENCES}:
        alike = _same_model([(i, own[model]) for i, own in enumerate(rows) if model in own])
        for members in alike if len(alike) > 1 else []:
            for i in members:
                names[i][model] = f"{model_label(model)} ({places[members[0]][0].name})"
    return [Run(*run) for run in zip(places, joined, names, strict=True)]


def _refusal(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Why two documents must not share a column; None where they may."""
    if reason := comparable(a, b):
        return reason
    clips_a, clips_b = _clips_by_split(a), _clips_by_split(b)
    data_a, data_b = _data_by_split(a), _data_by_split(b)
    for split in clips_a.keys() & clips_b.keys():
        if not clips_a[split] & clips_b[split]:
            return f"they scored no {split} clip in common"
        # true masks that both record were compared above; else the hash of the set decides
        recorded = all(_has_truths(document, split) for document in (a, b))
        if not recorded and data_a.get(split) != data_b.get(split):
            return f"{split} is not the same data set: {data_a.get(split)} and {data_b.get(split)}"
    return None


def _clips_by_split(document: Mapping[str, Any]) -> dict[str, set[str]]:
    clips: dict[str, set[str]] = {}
    for row in document["per_clip"]:
        clips.setdefault(row["split"], set()).add(row["clip"])
    return clips


def _data_by_split(document: Mapping[str, Any]) -> dict[str, str]:
    """``{"sim_seen": sha256}`` of the provenance's "sim_seen:SHA256 sim_unseen:SHA256"."""
    recorded = str(document["provenance"].get("data_sha256") or "").split()
    return dict(entry.split(":", 1) for entry in recorded if ":" in entry)


def _has_truths(document: Mapping[str, Any], split: str) -> bool:
    return any("truth_sha256" in row for row in document["per_clip"] if row["split"] == split)


def _same_model(runs: Sequence[tuple[int, list[Any]]]) -> list[list[int]]:
    """Runs in groups: the rows of a group share clips and agree on all that they share."""
    groups: list[tuple[list[int], dict[Any, Any]]] = []
    for i, rows in runs:
        own = {(row["split"], row["clip"], row["seed"], row.get("run_seed")): row for row in rows}
        for members, known in groups:
            shared = own.keys() & known.keys()
            if shared and all(own[key] == known[key] for key in shared):
                members.append(i)
                known.update(own)
                break
        else:
            groups.append(([i], own))
    return [members for members, _ in groups]


def merge(runs: Sequence[Run]) -> dict[str, Any]:
    """One document of all rows; a row that several runs share (references) counts once."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    failures: list[dict[str, Any]] = []
    for run in runs:
        for row in run.metrics["per_clip"]:
            named = {**row, "model": run.names[row["model"]]}
            key = (named["model"], row["split"], row["clip"], row["seed"], row.get("run_seed"))
            rows.setdefault(key, named)
        for failure in run.metrics["failures"]:
            if "metric" not in failure:  # those are found again in the rows
                model = failure.get("model")
                entry = {**failure, "model": run.names.get(model, model)}
                failures += [entry] if entry not in failures else []
    return build_metrics(
        list(rows.values()),
        failures,
        protocol=runs[0].metrics["protocol"],
        provenance=common_provenance([run.metrics["provenance"] for run in runs]),
    )


def merge_clips(
    runs: Sequence[Run], max_clips: int
) -> tuple[list[dict[str, Any]], float, list[str]]:
    """Clips with every model's video of them, their rate, and a line for each run without."""
    clips: dict[tuple[str, str], dict[str, Any]] = {}
    notes, rate = [], 0.0
    for run in runs:
        folder = run.folders[0]  # of several seeds
        try:
            shown, fps_hz = read_report_clips(folder / "report.html")
        except PisaError as error:  # the numbers are those of metrics.json
            why = str(error).removeprefix(f"{folder / 'report.html'}: ")
            notes.append(f"{folder.name}: in its report, {why}; they are not below.")
            continue
        if not shown or (rate and fps_hz != rate):
            why = "shows no clips" if not shown else f"shows its clips at {fps_hz:g} Hz"
            notes.append(f"{folder.name}: its report {why}, so they are not below.")
            continue
        rate = fps_hz
        for item in shown:
            key = (item["split"], item["clip"])
            entry = clips.setdefault(key, {"split": key[0], "clip": key[1], "models": {}})
            for model, video in item["models"].items():
                entry["models"].setdefault(run.names.get(model, model), video)
    ordered = sorted(clips.values(), key=lambda entry: -len(entry["models"]))
    if len(ordered) > max_clips:
        notes.append(f"{max_clips} of {len(ordered)} clips are shown (--clips).")
    return ordered[:max_clips], rate or 16.0, notes


def described(run: Run) -> dict[str, str]:
    own = [model_label(name) for old, name in run.names.items() if old not in REFERENCES]
    origin = run.metrics["provenance"]
    return {
        "run": ", ".join(folder.name for folder in run.folders),
        "models": ", ".join(own),
        "commit": str(origin["commit"] or "unknown"),
        "config_sha256": str(origin["config_sha256"]),
    }


def _data_notes(runs: Sequence[Run]) -> list[str]:
    """A warning where runs were scored on different numbers of clips."""
    clips = {
        run.folders[0].name: {
            split: len({r["clip"] for r in run.metrics["per_clip"] if r["split"] == split})
            for split in dict.fromkeys(r["split"] for r in run.metrics["per_clip"])
        }
        for run in runs
    }
    notes = []
    for split in dict.fromkeys(s for counts in clips.values() for s in counts):
        counts = {name: c[split] for name, c in clips.items() if split in c}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            notes.append(
                f"{split_label(split)}: the runs scored different numbers of clips ({listed}); "
                "compare the paired differences."
            )
    return notes
