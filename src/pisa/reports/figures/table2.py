"""Table 2: scores in and out of distribution, and by depth and height."""

from __future__ import annotations

import argparse
from pathlib import Path

from pisa.reports.figures import style
from pisa.reports.figures.heat_map import draw_grid
from pisa.reports.figures.origin import origin_of
from pisa.reports.figures.results import read_analysis
from pisa.reports.figures.table1 import write_table
from pisa.reports.published import PublishedRow, published_table_2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="ood.json, or its folder")
    style.add_out(parser, "table2")


def main(given: argparse.Namespace) -> None:
    """Write the table and the grid of one result of experiment=ood."""
    document = read_analysis(given.result, "ood")
    origin = origin_of(document["provenance"])
    summary = {model: result["table"] for model, result in document["models"].items()}
    write_table(given.out, "Table 2", {"summary": summary}, published_rows_2(), origin)
    with style.paper_style():
        figure = draw_grid({m: r["grid"] for m, r in document["models"].items()})
        stem = given.out.with_name(f"{given.out.name}_grid")
        title = "Table 2 by depth and height"
        notes = "Mean over the clips of a cell and, small, their number; framed: in distribution."
        paths = style.save(figure, stem, origin, title=title, notes=notes)
    style.report(paths)


def published_rows_2() -> list[PublishedRow]:
    """The paper's Table 2 as one row; its settings ID and OOD are our splits ``id`` and ``ood``."""
    scores = {label.lower(): values for label, values in published_table_2().items()}
    return [PublishedRow("The paper's model", "ours", scores)]
