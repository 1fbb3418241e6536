"""The provenance line under every figure and table: code version, configuration, data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pisa
from pisa.data.manifest import data_sha256, is_complete, read_manifest
from pisa.errors import PisaError
from pisa.io.provenance import git_commit
from pisa.reports.names import TRUTH, order_models

_SHOWN = 3  # different values that are listed; of more, their number and one hash over all
_SHORT = 8
_HASH = re.compile(r"[0-9a-f]{9,}")
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Origin:
    """Where results came from; several values where they came from several runs."""

    commits: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()

    def line(self) -> str:
        """One line; hashes are cut to eight digits."""
        parts = (("results: commit", self.commits), ("config", self.configs), ("data", self.data))
        named = [f"{name} {_list(values)}" for name, values in parts]
        if not self.commits and self.data:  # a data set, which no run made
            named = [f"data {_list(self.data)}", f"config {_list(self.configs)}"]
        drawn = git_commit(Path(pisa.__file__).parent) or NOT_RECORDED
        return "; ".join([*named, f"drawn by commit {_cut(drawn)}"])


def origin_of(provenance: Mapping[str, Any]) -> Origin:
    """Origin from the ``provenance`` part of metrics.json or of an analysis."""
    keys = ("commit", "config_sha256", "data_sha256")
    commit, config, data = (str(provenance.get(key) or NOT_RECORDED) for key in keys)
    return Origin((commit,), (config,), tuple(data.split(" ")) if ":" in data else (data,))


def origin_of_data(folder: Path) -> Origin:
    """Origin of a data set; every byte is read. A set without a manifest has no configuration.

    Raises ``PisaError`` for a folder that is no finished data set.
    """
    if not folder.is_dir():
        raise PisaError(f"{folder}: no such data set; simulate.py makes them")
    if not is_complete(folder):
        raise PisaError(f"{folder}: is no finished data set (no manifest.json, no clip folders)")
    known = (folder / "manifest.json").exists()
    config = read_manifest(folder).config_sha256 if known else NOT_RECORDED
    return Origin((), (config,), (f"{folder.name}:{data_sha256(folder)}",))


def together(origins: Iterable[Origin]) -> Origin:
    """The different values of several origins, in order of appearance."""
    listed = list(origins)
    return Origin(
        tuple(dict.fromkeys(value for o in listed for value in o.commits)),
        tuple(dict.fromkeys(value for o in listed for value in o.configs)),
        tuple(dict.fromkeys(value for o in listed for value in o.data)),
    )


def _list(values: tuple[str, ...]) -> str:
    if len(values) > _SHOWN:
        digest = hashlib.sha256("\n".join(values).encode()).hexdigest()
        return f"{len(values)} different ({digest[:_SHORT]})"
    return ", ".join(map(_cut, values)) or NOT_RECORDED


def _cut(text: str) -> str:
    return _HASH.sub(lambda found: found[0][:_SHORT], text)


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
