"""Several seeds of one experiment: intervals over clips and seeds; other runs are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.metrics.statistics import bootstrap_ci, crossed_ci
from pisa.reports.leaderboard import merge, read_runs
from pisa.reports.metrics_json import build_metrics, read_metrics, write_metrics
from pisa.reports.seeds import by_experiment, check_seeds, join_seeds, markdown
from pisa.reports.table import markdown_table
from tests.reports.saved_results import PROVENANCE


def test_the_interval_covers_seeds_as_well_as_clips():
    rng = np.random.default_rng(0)
    clips, seeds = rng.normal(size=40), np.array([[-1.0], [0.0], [1.0]])
    values = seeds + 0.1 * clips
    both, alone = crossed_ci(values, 0), bootstrap_ci(values.mean(axis=0), 0)
    assert both.mean == pytest.approx(alone.mean)
    assert both.hi - both.lo > 10 * (alone.hi - alone.lo)
    same = crossed_ci(np.repeat(values[:1], 3, axis=0), 0)
    one = bootstrap_ci(values[0], 0)
    assert same.hi - same.lo == pytest.approx(one.hi - one.lo, rel=0.2)


def test_missing_values_are_left_out():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    assert crossed_ci(values, 0)[::3] == (2.0, 2)
    assert crossed_ci(np.full((2, 2), np.nan), 0).n == 0


def run(folder: Path, seed: int, gain: float, clips: int = 6, experiment: str = "e") -> Path:
    """Scores of base and PSFT; PSFT is better by ``gain`` on every clip."""
    rows = [
        {"model": model, "split": "sim_seen", "clip": f"{i}", "seed": 0, "l2": value + 0.01 * i}
        for model, value in (("truth", 0.0), ("base", 0.3), ("psft", 0.3 - gain))
        for i in range(clips)
    ]
    origin = PROVENANCE | {"seed": seed, "experiment_sha256": experiment}
    document = build_metrics(rows, [], protocol="official", provenance=origin, metrics=["l2"])
    write_metrics(folder / "metrics.json", document)
    return folder


def joined(*runs: Path) -> dict[str, Any]:
    return join_seeds([read_metrics(folder / "metrics.json") for folder in runs])


def test_a_gain_in_every_seed_is_bold_and_each_seed_is_shown(tmp_path):
    runs = [run(tmp_path / str(n), n, gain) for n, gain in enumerate((0.1, 0.12, 0.14))]
    text = markdown(joined(*runs))
    assert "| PSFT minus Base | Sim (seen) | L2 | **-0.120 [-0.140, -0.100]** |" in text
    assert "-0.100, -0.120, -0.140" in text
    assert "| PSFT | Sim (seen) | L2 | 0.205 [" in text and "| 0.225, 0.205, 0.185 |" in text
    assert "| Base | Sim (seen) | L2 | 0.325 [0." in text and "| all alike |" in text


def test_a_gain_in_one_seed_of_two_is_not(tmp_path):
    runs = [run(tmp_path / str(n), n, gain) for n, gain in enumerate((0.1, -0.1))]
    assert "**" not in markdown(joined(*runs))


def test_a_harm_in_every_seed_says_so(tmp_path):
    runs = [run(tmp_path / str(n), n, -0.1) for n in range(2)]
    runs.append(run(tmp_path / "2", 2, -0.12))
    assert "** worse |" in markdown(joined(*runs))


def test_the_joined_document_has_one_row_of_the_model_over_all_seeds(tmp_path):
    document = joined(*(run(tmp_path / str(n), n, 0.1 * n) for n in range(3)))
    cell = document["summary"]["psft"]["sim_seen"]["l2"]
    assert cell["mean"] == pytest.approx(0.225) and cell["n"] == 6
    assert cell["seeds"] == pytest.approx({"0": 0.325, "1": 0.225, "2": 0.125})
    assert cell["ci95"][0] < 0.17 and cell["ci95"][1] > 0.28
    assert "seeds" not in document["summary"]["base"]["sim_seen"]["l2"]
    assert len(document["per_clip"]) == 6 + 6 + 3 * 6  # truth and base count once
    (pair,) = document["paired"]
    assert pair["cells"]["l2"]["n"] == 6 and pair["cells"]["l2"]["mean"] == pytest.approx(-0.1)
    assert "| PSFT (3 seeds) |" in markdown_table(document)


def test_the_command_writes_a_folder_that_is_read_like_a_run(tmp_path, capsys):
    runs = [str(run(tmp_path / str(n), n, gain)) for n, gain in enumerate((0.1, 0.12))]
    out = tmp_path / "both"
    assert main(["seeds", *runs, "--out", str(out)]) == 0
    assert (out / "seeds.md").read_text() in capsys.readouterr().out
    assert "PSFT (2 seeds)" in (out / "report.html").read_text()
    assert merge(read_runs([out]))["summary"] == read_metrics(out / "metrics.json")["summary"]


def test_the_leaderboard_joins_the_seeds_of_one_experiment_only(tmp_path):
    runs = [run(tmp_path / str(n), n, 0.1 * n) for n in range(3)]
    other = run(tmp_path / "other", 1, 0.25, experiment="o")
    read = read_runs([*runs, other])
    assert [len(entry.folders) for entry in read] == [3, 1]
    summary = merge(read)["summary"]
    assert set(summary) == {"truth", "base", "PSFT (0)", "PSFT (other)"}
    assert len(summary["PSFT (0)"]["sim_seen"]["l2"]["seeds"]) == 3


def test_runs_that_do_not_belong_together_are_refused(tmp_path):
    one, same = run(tmp_path / "a", 0, 0.1), run(tmp_path / "b", 0, 0.1)
    other = run(tmp_path / "c", 1, 0.1, clips=5)
    read = {
        folder: (folder, read_metrics(folder / "metrics.json")) for folder in (one, same, other)
    }
    with pytest.raises(PisaError, match="two or more"):
        check_seeds([read[one]])
    with pytest.raises(PisaError, match="seed of its own"):
        check_seeds([read[one], read[same]])
    with pytest.raises(PisaError, match="other models, clips or another protocol"):
        check_seeds([read[one], read[other]])
    assert [len(group) for group in by_experiment([read[one], read[other]])] == [1, 1]
