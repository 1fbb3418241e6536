"""Reading what ``eval.py experiment=ood|lift3d|drop_time`` saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pisa.reports.names import TRUTH, order_models
from pisa.types import PisaError

_KEYS = ("schema", "analysis", "data_set", "models", "provenance")


def read_analysis(path: Path, analysis: str) -> dict[str, Any]:
    """The document of one analysis: its JSON file, or the folder that ``eval.py`` wrote.

    Raises ``PisaError`` where it is missing, of another analysis, or not such a file.
    """
    path = path / f"{analysis}.json" if path.is_dir() else path
    if not path.is_file():
        raise PisaError(
            f"{path}: no such file; `python eval.py experiment={analysis} ckpt=...` makes it"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PisaError(f"{path}: cannot read: {error}") from error
    missing = [key for key in _KEYS if not isinstance(document, dict) or key not in document]
    if missing:
        raise PisaError(f"{path}: is no saved analysis (it lacks {', '.join(missing)})")
    if document["analysis"] != analysis:
        raise PisaError(f"{path}: holds the analysis {document['analysis']!r}, not {analysis!r}")
    if document["schema"] != 1:
        raise PisaError(f"{path}: has schema {document['schema']!r}; this version reads 1")
    return document


def model_of(document: Mapping[str, Any], name: str | None) -> str:
    """The model to draw: the given one, else the last that is not the ground truth.

    Raises ``PisaError`` for a name that the document lacks.
    """
    models = order_models(document["models"])
    if name is None:
        return next((m for m in reversed(models) if m not in (TRUTH, "frozen")), models[-1])
    if name not in models:
        raise PisaError(f"no model {name!r} in this result; it has {', '.join(models)}")
    return name
