"""Several seeds of one experiment: intervals over clips and seeds; other runs are refused."""

from pathlib import Path

import numpy as np
import pytest

from pisa.errors import PisaError
from pisa.metrics.statistics import bootstrap_ci, crossed_ci
from pisa.reports.metrics_json import build_metrics, write_metrics
from pisa.reports.seeds import markdown, read_seeds
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


def run(folder: Path, seed: int, gain: float, clips: int = 6) -> Path:
    """Scores of base and PSFT; PSFT is better by ``gain`` on every clip."""
    rows = [
        {"model": model, "split": "sim_seen", "clip": f"{i}", "seed": 0, "l2": value + 0.01 * i}
        for model, value in (("truth", 0.0), ("base", 0.3), ("psft", 0.3 - gain))
        for i in range(clips)
    ]
    origin = PROVENANCE | {"seed": seed}
    document = build_metrics(rows, [], protocol="official", provenance=origin, metrics=["l2"])
    write_metrics(folder / "metrics.json", document)
    return folder


def test_a_gain_in_every_seed_is_bold_and_each_seed_is_shown(tmp_path):
    runs = [run(tmp_path / str(n), n, gain) for n, gain in enumerate((0.1, 0.12, 0.14))]
    text = markdown(read_seeds(runs))
    assert "| PSFT minus Base | Sim (seen) | L2 | **-0.120 [-0.140, -0.100]** |" in text
    assert "-0.100, -0.120, -0.140" in text
    assert "| Base | Sim (seen) | L2 | 0.325 | 0.325, 0.325, 0.325 |" in text


def test_a_gain_in_one_seed_of_two_is_not(tmp_path):
    runs = [run(tmp_path / str(n), n, gain) for n, gain in enumerate((0.1, -0.1))]
    assert "**" not in markdown(read_seeds(runs)).split("Differences")[1].split("\n", 1)[1]


def test_a_harm_in_every_seed_says_so(tmp_path):
    runs = [run(tmp_path / str(n), n, -0.1) for n in range(2)]
    assert "** worse |" in markdown(read_seeds(runs))


def test_runs_that_do_not_belong_together_are_refused(tmp_path):
    one, same = run(tmp_path / "a", 0, 0.1), run(tmp_path / "b", 0, 0.1)
    other = run(tmp_path / "c", 1, 0.1, clips=5)
    with pytest.raises(PisaError, match="two or more"):
        read_seeds([one])
    with pytest.raises(PisaError, match="seed of its own"):
        read_seeds([one, same])
    with pytest.raises(PisaError, match="other models, clips or another protocol"):
        read_seeds([one, other])
