"""One look for all figures: column widths, fonts, colours, and how a figure is saved.

Colours are Okabe and Ito's, told apart with any colour vision; lines also differ in dash or marker.
"""

from __future__ import annotations

import argparse
import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pisa.io.files import write_atomic
from pisa.reports.figures.origin import Origin

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


@contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's settings while a figure is drawn and saved."""
    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in), layout="constrained")


def show_frame(axes: Axes, frame: np.ndarray) -> None:
    """An image without ticks; small ones keep sharp pixels."""
    axes.imshow(frame, interpolation="nearest" if max(frame.shape[:2]) <= 128 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def save(figure: Figure, stem: Path, origin: Origin, *, title: str, notes: str = "") -> list[Path]:
    """Write ``STEM.pdf`` and ``STEM.png`` with notes and the provenance line at the foot.

    The same line is in the files' metadata. Raises ``PisaError`` where they cannot be written.
    """
    line = origin.line()
    letters = int(figure.get_size_inches()[0] / _FOOT_LETTER_IN)
    rows = [row for text in (notes, line) if text for row in textwrap.wrap(text, letters)]
    foot = "\n".join(rows)
    figure.supxlabel(foot, x=0.01, ha="left", fontsize=_FOOT_PT, color=GREY, linespacing=1.3)
    kinds: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": line, "CreationDate": None},
        "png": {"Title": title, "Description": line},
    }
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
    for path, (kind, metadata) in zip(paths, kinds.items(), strict=True):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=_PNG_DPI, metadata=metadata)
        write_atomic(path, buffer.getvalue())
    return paths


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """The option for where a figure goes."""
    help_text = f"path without ending (default: figures/{name})"
    parser.add_argument("--out", type=Path, default=Path("figures") / name, help=help_text)


def report(paths: Sequence[Path]) -> None:
    print("written: " + ", ".join(map(str, paths)))


def provenance_in_png(path: Path) -> str:
    """The provenance line in the metadata of a PNG that ``save`` wrote."""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))
