"""The end of a scoring run: files, table, and an exit code that separates failures from success.

0: every sample was scored. 3: some were not; they are named, and the means that are printed and
written are marked ``incomplete``. With ``allow_missing`` the mark is ``partial`` and the code 0.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pisa.bench.collect import Collection
from pisa.errors import IncompleteError
from pisa.io.provenance import provenance
from pisa.io.weights import read_metadata
from pisa.launch.runs import EvalRun
from pisa.perception.base import Tracker
from pisa.perception.mask_cache import tracker_identity
from pisa.reports.comparison import with_details
from pisa.reports.html import Page, write_report
from pisa.reports.metrics_json import build_metrics, write_metrics
from pisa.reports.table import print_table
from pisa.tasks.base import PASSES


def provenance_of(run: EvalRun, data_sha256: str, tracker: Tracker | None) -> dict[str, Any]:
    """The provenance of a scoring; ``tracker`` made its masks (None: they were given)."""
    made_by = "given masks" if tracker is None else tracker_identity(tracker)
    return provenance(run.config, data_sha256, run.seed) | {"tracker": made_by}


def passes_of(weights: Mapping[str, Path | None]) -> dict[str, int]:
    """By row, the forward passes of the denoiser that the weights record (``passes_metadata``)."""
    files = {row: path for row, path in weights.items() if path and path.suffix == ".safetensors"}
    found = {row: read_metadata(path).get(PASSES) for row, path in files.items()}
    return {row: int(passes) for row, passes in found.items() if passes is not None}


def document_of(
    run: EvalRun, collection: Collection, origin: Mapping[str, Any], **extra: Any
) -> dict[str, Any]:
    """metrics.json with paired differences and breakdown; ``origin`` is from ``provenance_of``."""
    metrics = build_metrics(
        [row.as_dict() for row in collection.rows],
        [failure.as_dict() for failure in collection.failures],
        protocol=run.evaluation.protocol,
        provenance=origin,
    )
    incomplete = "partial" if run.allow_missing else "incomplete"
    status = incomplete if metrics["failures"] else "complete"
    return with_details({**metrics, **extra, "status": status})


def publish(run: EvalRun, document: Mapping[str, Any], model: str, page: Page) -> None:
    """Write metrics.json and report.html; print the table and every failure.

    ``model`` is the row that the run is about. Raises ``IncompleteError`` after all is written when
    a sample failed and ``allow_missing`` is off, or when no sample of ``model`` was scored.
    """
    write_metrics(run.folder / "metrics.json", document)
    path = run.folder / "report.html"
    write_report(path, document, replace(page, config_text=run.config_text))
    print_table(document)
    print(f"report: {path}")
    failures = document["failures"]
    for failure in failures:
        print(f"failed: {_line(failure)}", file=sys.stderr)
    scored = sum(row["model"] == model for row in document["per_clip"])
    if failures and not (run.allow_missing and scored):
        raise IncompleteError(_summary(failures, scored))


def _line(failure: Mapping[str, Any]) -> str:
    """Model, split, clip and seed of a failure, and its reason."""
    sample = "/".join(str(failure.get(key) or "-") for key in ("model", "split", "clip"))
    text = f"{sample} seed {failure.get('seed', 0)}: {failure.get('reason', 'unknown')}"
    return " ".join(text.split())


def _summary(failures: Sequence[Mapping[str, Any]], scored: int) -> str:
    clips = list(dict.fromkeys(str(failure.get("clip")) for failure in failures))
    named = ", ".join(clips[:5]) + (f" and {len(clips) - 5} more" if len(clips) > 5 else "")
    count = f"{len(failures)} failure" + ("s" if len(failures) > 1 else "")
    return f"{count}, in {named}; the means above are over what is left" + (
        "; allow_missing=true accepts that" if scored else ": nothing"
    )
