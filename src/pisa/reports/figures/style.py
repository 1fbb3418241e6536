"""One look for all figures: column widths, fonts, colours, and how a figure is saved.

Colours are Okabe and Ito's, told apart with any colour vision; lines also differ in dash or marker.
Under every figure and table is its provenance: code version, configuration, data.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pisa
from pisa.data.manifest import data_sha256, is_complete, list_clips, read_manifest
from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.io.provenance import git_commit
from pisa.reports.names import REFERENCES, order_models

COLUMN_IN, TEXT_IN = 3.25, 6.75  # one and two columns of a conference page
INK, GREY, PALE = "#1d2329", "#6b7280", "#c9ced4"
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
SKY, RED, PURPLE = "#56B4E9", "#D55E00", "#CC79A7"
_SETTINGS: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "pisa",
}
_PNG_DPI = 220
_FOOT_PT = 4.6
_FOOT_LETTER_IN = 0.0345  # mean width of a letter at that size


def paper_style() -> AbstractContextManager[None]:
    """Matplotlib's settings while a figure is drawn and saved."""
    return mpl.rc_context(_SETTINGS)


def new_figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in), layout="constrained")


def show_frame(axes: Axes, frame: np.ndarray) -> None:
    """An image without ticks; small ones keep sharp pixels."""
    axes.imshow(frame, interpolation="nearest" if max(frame.shape[:2]) <= 128 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def write(
    stem: Path, origin: Origin, draw: Callable[[], Figure], *, title: str, notes: str = ""
) -> None:
    """Draw, write ``STEM.pdf`` and ``STEM.png`` with notes and the provenance line at the foot.

    The same line is in the files' metadata. Raises ``PisaError`` where they cannot be written.
    """
    line = origin.line()
    kinds: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": line, "CreationDate": None},
        "png": {"Title": title, "Description": line},
    }
    with paper_style():
        figure = draw()
        letters = int(figure.get_size_inches()[0] / _FOOT_LETTER_IN)
        rows = [row for text in (notes, line) if text for row in textwrap.wrap(text, letters)]
        foot: dict[str, Any] = {"fontsize": _FOOT_PT, "color": GREY, "linespacing": 1.3}
        figure.supxlabel("\n".join(rows), x=0.01, ha="left", **foot)
        for kind, metadata in kinds.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=_PNG_DPI, metadata=metadata)
            write_atomic(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue())
    report(stem.with_name(f"{stem.name}.{kind}") for kind in kinds)


def named_clips(folder: Path, names: Sequence[str]) -> list[Path]:
    """The clips of these names. Raises ``PisaError`` for a name that the set lacks."""
    clips = {path.name: path for path in list_clips(folder)}
    if unknown := [name for name in names if name not in clips]:
        raise PisaError(f"{folder}: has no clip {', '.join(unknown)}")
    return [clips[name] for name in names]


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """The option for where a figure goes."""
    help_text = f"path without ending (default: figures/{name})"
    parser.add_argument("--out", type=Path, default=Path("figures") / name, help=help_text)


def report(paths: Iterable[Path]) -> None:
    print("written: " + ", ".join(map(str, paths)))


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

    Raises ``PisaError`` for a folder that is not a finished data set.
    """
    if not folder.is_dir():
        raise PisaError(f"{folder}: no such data set; simulate.py makes them")
    if not is_complete(folder):
        raise PisaError(f"{folder}: is not a finished data set (no manifest.json, no clip folders)")
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
        raise PisaError(f"{path}: is not a saved analysis (it lacks {', '.join(missing)})")
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
        return next((m for m in reversed(models) if m not in REFERENCES), models[-1])
    if name not in models:
        raise PisaError(f"no model {name!r} in this result; it has {', '.join(models)}")
    return name
