"""Searches: trials in processes of their own, failed ones survived, a stopped study continued."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pisa.__main__ import main
from pisa.errors import PisaError
from pisa.launch import search
from pisa.launch.compose import composed
from pisa.reports.sweep import read_members
from tests.launch.test_sweep import scored

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def trains(monkeypatch, tmp_path: Path) -> list[list[str]]:
    """Stands for train.py: L2 is the distance of log10 of the rate from -4; every third fails."""
    import math

    commands: list[list[str]] = []

    def run(command, **_):
        commands.append(command)
        rate = next(float(c.split("=")[1]) for c in command if c.startswith("oro.task.lr="))
        if len(commands) % 3 == 0:
            return subprocess.CompletedProcess(command, 1)
        folder = search.folder_of(composed("train", command[2:]))
        scored(folder, "oro_flow", abs(math.log10(rate) + 4) / 2)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(search.subprocess, "run", run)
    return commands


def test_a_search_finds_the_best_rate_and_survives_failures(trains, tmp_path, capsys):
    options = [f"output_dir={tmp_path / 'runs'}"]
    arguments = [str(CONFIGS / "search" / "oro_lr.yaml"), "--folder", str(tmp_path / "s"), *options]
    assert main(["search", *arguments, "--trials", "4"]) == 3
    assert [m.status for m in read_members(tmp_path / "s")].count("failed") == 1
    assert len(trains) == 4
    assert main(["search", *arguments, "--trials", "9"]) == 3
    assert len(trains) == 9  # the first four are not repeated
    best = [line for line in capsys.readouterr().out.splitlines() if line.startswith("best")][-1]
    assert 2e-5 < float(best.rpartition("oro.task.lr=")[2]) < 5e-4
    assert (tmp_path / "s" / "sweep.csv").is_file()


def test_a_search_that_was_stopped_resumes(trains, tmp_path, monkeypatch, capsys):
    """The trial that ran then counts as failed and is not left as running."""
    arguments = [str(CONFIGS / "search" / "oro_lr.yaml"), "--folder", str(tmp_path / "s")]
    arguments += ["--trials", "2", f"output_dir={tmp_path / 'runs'}"]
    with monkeypatch.context() as struck:

        def stop(*_, **__):
            raise KeyboardInterrupt

        struck.setattr(search.subprocess, "run", stop)
        assert main(["search", *arguments]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert [m.status for m in read_members(tmp_path / "s")] == ["running"]
    assert main(["search", *arguments]) == 3
    first, second = read_members(tmp_path / "s")
    assert (first.status, first.error) == ("failed", "it was killed")
    assert second.status == "finished" and len(trains) == 1


@pytest.mark.parametrize("path", sorted((CONFIGS / "search").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_search_composes_at_both_ends(path):
    found = search.read_search(path)
    for end in ("low", "high"):
        values = [f"{name}={settings[end]}" for name, settings in found["parameters"].items()]
        cfg = composed("train", [*found["overrides"], *values, "run_dir=x"])
        assert cfg.data.sim_unseen == "val_unseen"
    assert found["objective"].count("/") == 1


def test_mistakes_in_a_search(tmp_path):
    (tmp_path / "a.yaml").write_text("parameters: {}")
    assert main(["search", str(tmp_path / "a.yaml")]) == 2
    with pytest.raises(PisaError, match="low and high"):
        search.distribution("x", {"low": 1})
