"""Tables 1 and 2: published rows are marked, own numbers are those of the input."""

from __future__ import annotations

import json

import pytest

from pisa.__main__ import main
from pisa.reports.metrics_json import read_metrics
from pisa.reports.published import published_drop_times, published_table_1
from tests.reports import saved_results as saved


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    run = saved.write_run(folder / "psft")
    saved.write_ood(folder)
    assert main(["table1", str(run), "--out", str(folder / "table1")]) == 0
    assert main(["table2", str(folder), "--out", str(folder / "table2")]) == 0
    return folder


def rows_of(path) -> dict[str, list[str]]:
    """Cells by label of a markdown table."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_table_1_has_the_papers_rows_marked_and_ours_below(made):
    rows = rows_of(made / "table1.md")
    published = [label for label in rows if label.endswith("(published)")]
    assert published == [f"{row.label} (published)" for row in published_table_1()]
    assert rows["Sora (published)"][0] == "0.149"  # sim (seen) comes first: no real clips here
    cell = read_metrics(made / "psft" / "metrics.json")["summary"]["psft"]["sim_seen"]["l2"]
    low, high = cell["ci95"]
    assert rows["PSFT"][0] == f"**{cell['mean']:.3f}** [{low:.3f}, {high:.3f}]"
    assert len(rows["Model"]) == 6  # L2, CD, IoU of two sets, as in the paper
    assert "**" not in "".join(cell for label in published for cell in rows[label])


def test_table_1_in_latex_has_the_same_cells(made):
    text = (made / "table1.tex").read_text()
    assert text.startswith("% results: commit c0ffee00; config beefbeef; data sim_seen:12341234")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in lines[1:]} == {6}
    assert lines[-1].startswith(r"PSFT & \textbf{0.115}")
    assert text.index(r"\midrule") > text.index("base + ORO (Depth) (published)")


def test_table_1_cell_by_cell(made, capsys):
    options = [str(made / "psft"), "--against-paper", "--out", str(made / "table1")]
    assert main(["table1", *options]) == 0
    text = (made / "table1_against_paper.md").read_text()
    assert "| Sora | Real | L2 | 0.174 | not measured |" in text
    mean = read_metrics(made / "psft" / "metrics.json")["summary"]["psft"]["sim_seen"]["l2"]["mean"]
    row = f"| Open-Sora + PSFT (base) | Sim (seen) | L2 | 0.036 | {mean:.3f} |"
    assert row in text and f"{mean - 0.036:+.3f}" in text
    assert "of 108 printed cells are measured" in capsys.readouterr().out


def test_table_2_beside_the_papers_row(made):
    rows = rows_of(made / "table2.md")
    expected = ["0.036", "0.088", "0.155", "0.091", "0.044", "0.143", "0.049", "0.187"]
    assert rows["The paper's model (published)"] == expected
    table = json.loads((made / "ood.json").read_text())["models"]["psft"]["table"]
    assert rows["PSFT"][4].split(" ")[0] == f"{table['ood']['l2']['mean']:.3f}"
    assert "Out of distribution, n = 11" in rows["Model"][4]


def test_every_file_is_there_and_says_where_it_comes_from(made):
    for kind in ("pdf", "png"):
        assert (made / f"table2_grid.{kind}").stat().st_size > 5000
    assert "drawn by commit" in (made / "table2.md").read_text()


def test_the_papers_distribution_result():
    assert published_drop_times() == {"images": 50, "samples": 128, "passed": 0}
