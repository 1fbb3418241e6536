"""A sweep: members that fail are recorded, the others go on, and a summary ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from omegaconf import OmegaConf

from pisa.errors import PisaError
from pisa.launch import sweep
from pisa.reports.sweep import Member, read_members, summarise, table_rows, write_member

ROOT = Path(__file__).parents[2]


def scored(folder: Path, name: str, l2: float) -> str:
    folder.mkdir(parents=True)
    cells = [{"l2": {"mean": mean, "ci95": [mean, mean], "n": 1}} for mean in (l2, 2 * l2)]
    origin = {"commit": None, "config_sha256": "", "data_sha256": "", "seed": 0, "versions": {}}
    metrics = {
        "schema": 1, "protocol": "official", "failures": [], "per_clip": [],
        "summary": {name: dict(zip(("sim_seen", "sim_unseen"), cells, strict=True))},
        "provenance": origin,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return str(folder)


@pytest.fixture
def members(tmp_path: Path) -> Path:
    place = tmp_path / "sweep"
    for number, lr in enumerate(("1e-5", "1e-3", "-1")):
        overrides = ["experiment=psft", f"psft.task.lr={lr}"]
        folder = tmp_path / f"run{number}"
        if number < 2:
            scored(folder, "psft", 0.1 * (number + 1))
        status, error = ("finished", None) if number < 2 else ("failed", "ValueError: no")
        write_member(place, Member(number, overrides, str(folder), "psft", status, error, 60.0))
    return place


def test_the_table_has_what_varies_and_the_scores(members):
    rows = table_rows(read_members(members))
    assert [row["psft.task.lr"] for row in rows] == ["1e-5", "1e-3", "-1"]
    assert "experiment" not in rows[0] and rows[1]["sim_unseen/l2"] == pytest.approx(0.4)
    assert rows[2]["status"] == "failed" and "sim_seen/l2" not in rows[2]


def test_a_summary_counts_and_names_what_did_not_finish(members, capsys):
    assert summarise(members) == 1
    said = capsys.readouterr().out
    assert "not finished: member 2: ValueError: no" in said
    assert (members / "sweep.csv").read_text().splitlines()[0].startswith("member,psft.task.lr")


def test_folders_without_records(tmp_path):
    with pytest.raises(PisaError, match="no records"):
        summarise(tmp_path)
    (tmp_path / "member-0000.json").write_text("{}")
    with pytest.raises(PisaError, match="not a record of"):
        summarise(tmp_path)


@pytest.mark.parametrize("how", ["one line", "an exception", None])
def test_a_member_that_fails_does_not_end_the_sweep(how, tmp_path, monkeypatch, capsys):
    def attempt(cfg):
        if how == "an exception":
            raise RuntimeError("out of memory\nmore")
        return how

    settings = SimpleNamespace(
        sweep=SimpleNamespace(dir=str(tmp_path)),
        job=SimpleNamespace(num=4),
        overrides=SimpleNamespace(task=["experiment=psft", "hydra.x=1", "seed=3"]),
    )
    monkeypatch.setattr(sweep.HydraConfig, "get", lambda: settings)
    cfg = OmegaConf.create({"name": "x", "output_dir": str(tmp_path), "data_dir": "data"})
    sweep.run_member(cfg, attempt)
    (member,) = read_members(tmp_path)
    errors = {"one line": "one line", "an exception": "RuntimeError: out of memory", None: None}
    assert member.error == errors[how] and member.overrides == ["experiment=psft", "seed=3"]
    assert member.status == ("failed" if how else "finished")
    callback = sweep.SweepSummary()
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    if how is None:
        callback.on_multirun_end(config)
    else:
        with pytest.raises(SystemExit) as ended:
            callback.on_multirun_end(config)
        assert ended.value.code == 3


def test_every_entry_point_has_the_summary():
    for name in ("train", "eval", "simulate"):
        with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = hydra.compose(name, [], return_hydra_config=True)
        assert cfg.hydra.callbacks.summary._target_ == "pisa.launch.sweep.SweepSummary"


@pytest.mark.slow  # starts the program and trains twice: a minute
def test_train_py_with_a_member_that_cannot_run(tmp_path):
    options = (
        "experiment=psft", "debug=smoke", "logger=csv", "callbacks.samples=null",
        "simulation.num_workers=1", "model.weights=null", "model.denoiser.depth=2",
        "evaluation.num_clips=2", "psft.task.lr=1e-3,-1,1e-2",
    )  # fmt: skip
    command = [sys.executable, str(ROOT / "train.py"), "-m", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=290)
    assert done.returncode == 3, done.stderr[-2000:]
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert [m.status for m in read_members(folder)] == ["finished", "failed", "finished"]
    assert (folder / "sweep.csv").is_file()
