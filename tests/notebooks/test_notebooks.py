"""The notebooks: thin, stripped, and they run from top to bottom on small saved results."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MAX_LINES = 14  # of a code cell: what is longer belongs into the package
FIGURES = {"data_tour": 3, "training_review": 3, "section5": 3}


def read(path: Path):
    return nbformat.read(path, as_version=4)


def parameters_of(name: str, folder: Path) -> str:
    """The cell tagged "parameters" for the test's results."""
    from tests.reports import saved_results as saved

    if name == "data_tour":
        falls = saved.write_data_set(folder / "sim_seen-1")
        twins = saved.write_ambiguous_set(folder / "ambiguous-1")
        return f"from pathlib import Path\nFALLS, AMBIGUOUS = Path('{falls}'), Path('{twins}')"
    if name == "training_review":
        run = saved.write_run(folder / "psft")
        return f"from pathlib import Path\nRUN = LOGGED = Path('{run}')"
    saved.write_ood(folder), saved.write_lift3d(folder), saved.write_drop_time(folder)
    return f"from pathlib import Path\nOOD = LIFT3D = DROP_TIME = Path('{folder}')"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin_and_stripped(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert max(len(cell.source.splitlines()) for cell in cells) <= MAX_LINES
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    imported = set(re.findall(r"^(?:from|import) (\w+)", "\n".join(c.source for c in cells), re.M))
    assert imported <= {"pathlib", "IPython", "pisa"}


@pytest.mark.slow  # a kernel of its own imports everything: some 20 s each
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(path, tmp_path):
    from nbclient import NotebookClient

    notebook = read(path)
    (given,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    given.source = parameters_of(path.stem, tmp_path)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) == FIGURES[path.stem]
    assert any("text/markdown" in data for data in shown)


def test_there_are_three_notebooks():
    assert {path.stem for path in NOTEBOOKS} == set(FIGURES)
