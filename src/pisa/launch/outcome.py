"""The end of a scoring run: files, table, and an exit code that separates failures from success.

0: every sample was scored. 3: some were not; they are named, and the means that are printed and
written are marked ``incomplete``. With ``allow_missing`` the mark is ``partial`` and the code 0.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pisa.errors import PisaError
from pisa.launch.runs import EvalRun
from pisa.perception.base import Tracker
from pisa.perception.mask_cache import tracker_identity
from pisa.reports.breakdown import with_details, write_csv
from pisa.reports.html import write_report
from pisa.reports.metrics_json import provenance, write_metrics
from pisa.reports.table import print_table

EXIT_INCOMPLETE = 3


class IncompleteError(PisaError):
    """Some samples could not be scored; entry points exit with ``EXIT_INCOMPLETE``."""

    exit_code = EXIT_INCOMPLETE


def provenance_of(run: EvalRun, data_sha256: str, tracker: Tracker | None = None) -> dict[str, Any]:
    """The provenance of a run of eval.py; ``tracker`` made its masks (None: they were given)."""
    made_by = "given masks" if tracker is None else tracker_identity(tracker)
    return provenance(run.config, data_sha256, run.evaluation.seed) | {"tracker": made_by}


def publish(
    metrics: Mapping[str, Any],
    folder: Path,
    *,
    model: str,
    allow_missing: bool,
    **report: Any,
) -> dict[str, Any]:
    """Write metrics.json and report.html, print the table, name each failure on its own line.

    ``report`` goes to ``write_report``. Raises ``IncompleteError`` after all that when a sample
    failed and ``allow_missing`` is off, or when nothing of ``model`` was scored at all.
    """
    failures = metrics["failures"]
    document = write_results(
        {**metrics, "status": status_of(failures, allow_missing)}, folder, **report
    )
    for failure in failures:
        print(f"failed: {describe(failure)}", file=sys.stderr)
    scored = sum(row["model"] == model for row in metrics["per_clip"])
    if failures and not (allow_missing and scored):
        raise IncompleteError(_summary(failures, scored))
    return document


def write_results(metrics: Mapping[str, Any], folder: Path, **report: Any) -> dict[str, Any]:
    """Write metrics.json, the CSV files and report.html; print the table.

    ``report`` goes to ``write_report``. Returns the document with paired differences and breakdown.
    """
    detailed = with_details(metrics)
    write_metrics(folder / "metrics.json", detailed)
    write_csv(folder, detailed)
    page = write_report(folder / "report.html", detailed, **report)
    print_table(detailed)
    print(f"report: {page}")
    return detailed


def status_of(failures: Sequence[Mapping[str, Any]], allow_missing: bool) -> str:
    """The word in metrics.json: complete, incomplete or partial."""
    if not failures:
        return "complete"
    return "partial" if allow_missing else "incomplete"


def describe(failure: Mapping[str, Any]) -> str:
    """Model, split, clip and seed of a failure, and what happened, on one line."""
    place = "/".join(str(failure.get(key) or "-") for key in ("model", "split", "clip"))
    text = f"{place} seed {failure.get('seed', 0)}: {failure.get('reason', 'unknown')}"
    return " ".join(text.split())


def _summary(failures: Sequence[Mapping[str, Any]], scored: int) -> str:
    clips = list(dict.fromkeys(str(failure.get("clip")) for failure in failures))
    named = ", ".join(clips[:5]) + (f" and {len(clips) - 5} more" if len(clips) > 5 else "")
    count = f"{len(failures)} failure" + ("s" if len(failures) > 1 else "")
    return f"{count}, in {named}; the means above are over what is left" + (
        "; allow_missing=true accepts that" if scored else ": nothing"
    )
