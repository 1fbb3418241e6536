"""Figure 5: runs are read from their folders, and sorted into its panels."""

from __future__ import annotations

import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.reports.figures import ablation, style
from pisa.reports.figures.ablation import read_run
from pisa.reports.metrics_json import read_metrics, write_metrics
from tests.reports import saved_results as saved
from tests.reports.saved_results import provenance_in_png


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two lengths, two initialisations, two sizes; levels tell them apart."""
    folder = tmp_path_factory.mktemp("runs")
    made = [
        saved.write_run(folder / "short", max_steps=50, level=0.2, curve=False),
        saved.write_run(folder / "long", max_steps=100, level=0.1),
        saved.write_run(folder / "random", max_steps=100, level=0.25, pretrained=False),
        saved.write_run(folder / "few", max_steps=100, level=0.15, train_clips=100, curve=False),
    ]
    return made


def test_a_run_folder_is_read(runs):
    run = read_run(runs[1])
    assert (run.initialisation, run.train_clips, run.max_steps) == ("pre-trained", 1000, 100)
    assert run.curves["sim_seen", "l2"] == [(50, pytest.approx(0.12)), (100, pytest.approx(0.11))]
    assert run.scores["sim_seen"]["l2"]["n"] == 4
    assert read_run(runs[2]).initialisation == "random"
    assert read_run(runs[3]).train_clips == 100


def test_panels_draw_the_runs_that_belong_there(runs):
    read = [read_run(place) for place in runs]
    with style.paper_style():
        figure = ablation.draw(read)
    steps, _, _, sizes = figure.axes
    drawn = [[list(map(float, v)) for v in line.get_data()] for line in steps.lines]
    assert [[50.0, 100.0], pytest.approx([0.12, 0.11])] in drawn  # validation of the long run
    assert [[50.0, 100.0], pytest.approx([0.215, 0.115])] in drawn  # final scores, both lengths
    assert [[100.0], pytest.approx([0.265])] in drawn  # random
    beside = [x for x, y in drawn if y == pytest.approx([0.215, 0.115])]
    assert beside == [[50.0, 100.0], pytest.approx([50.75, 101.5])]  # both sets can be seen
    assert not any(pytest.approx(0.165) in y for _, y in drawn)  # other number of clips
    first = [list(map(float, v)) for v in sizes.lines[0].get_data()]
    assert first == [[100.0, 1000.0], pytest.approx([0.165, 0.115])]
    assert sizes.get_xscale() == "log" and "100 steps each" in sizes.get_title(loc="left")
    published = [y[0] for x, y in drawn if len(set(y)) == 1 and x == [0.0, 1.0]]
    assert published == [0.036, 0.028]  # the paper's PSFT, seen and unseen


def test_runs_that_differ_in_their_seed_have_one_final_score(tmp_path):
    places = []
    for seed, level in enumerate((0.1, 0.14)):
        place = saved.write_run(tmp_path / f"{seed}", level=level)
        document = read_metrics(place / "metrics.json")
        document["provenance"] |= {"seed": seed, "experiment_sha256": "e"}
        write_metrics(place / "metrics.json", document)
        places.append(place)
    first, second = ablation.over_seeds([read_run(place) for place in places])
    cell = first.scores["sim_seen"]["l2"]
    assert cell["mean"] == pytest.approx(0.135) and cell["n"] == 4 and len(cell["seeds"]) == 2
    assert second.scores == {} and second.curves and first.curves
    assert "Seeds of each: 2" in ablation._notes([first, second])
    joined = tmp_path / "joined"
    assert main(["seeds", *map(str, places), "--out", str(joined)]) == 0
    run = read_run(joined)
    assert run.scores == first.scores and (run.max_steps, run.train_clips) == (100, 1000)
    assert main(["figure5", str(joined), "--out", str(tmp_path / "f5")]) == 0


def test_one_run_says_what_panel_d_lacks(runs, tmp_path):
    assert main(["figure5", str(runs[1]), "--out", str(tmp_path / "f5")]) == 0
    with style.paper_style():
        figure = ablation.draw([read_run(runs[1])], published=False)
    assert figure.axes[3].texts[0].get_text() == "no runs of other sizes given"
    assert provenance_in_png(tmp_path / "f5.png").startswith("results: commit c0ffee00")
    assert b"/Subtype /Image" not in (tmp_path / "f5.pdf").read_bytes()


def test_a_folder_without_a_log_or_scores_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PisaError, match=r"holds no csv.metrics.csv and no metrics"):
        read_run(tmp_path / "empty")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("step,train/loss\n1,2\n")
    with pytest.raises(PisaError, match="holds no scores of PisaBench"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(PisaError, match="is not the configuration of a training run"):
        read_run(tmp_path)
