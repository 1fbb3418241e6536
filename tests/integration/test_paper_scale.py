"""`experiment=psft scale=paper`: what is missing is named; with a tiny model every part runs."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.test_budget import METHODS
from tests.processes import run_script

ROOT = Path(__file__).parents[2]
TINY = (
    "scale=paper",
    "model=opensora_tiny",
    "perception=embedded",
    "prior=tiny",
    "logger=csv",
    "debug=smoke",
    "simulation.backend.resolution=64",
    "data.expect_size=[64,64]",
    "data.num_workers=0",
    "psft.max_steps=3",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "evaluation.num_steps=2",
    "sampling.num_steps=2",
)


def train(folder: Path, *overrides: str, processes: int = 0, **environment: str):
    if not processes:
        return run_script("train.py", *overrides, cwd=folder, **environment)
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "train.py"), *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")} | environment,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )


def losses(run: Path) -> list[float]:
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def test_missing_weights_are_one_sentence_that_says_what_to_fetch(tmp_path):
    done = train(tmp_path, "experiment=psft", "scale=paper", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 2, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "hpcai-tech/OpenSora-STDiT-v3" in line and "folder" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()  # before anything is simulated


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_open_soras_architecture(tmp_path, method):
    steps = () if method == "more_psft" else ("oro.task.num_steps=2",)
    alone = ("trainer=cpu", "trainer.precision=32-true", "evaluate=false")
    done = train(tmp_path, *TINY, f"experiment={method}", *alone, *steps)
    assert done.returncode == 0, done.stderr[-3000:]
    found = losses(next((tmp_path / "runs").glob(f"{method}-*")))
    assert len(found) == 2 and all(math.isfinite(loss) for loss in found)


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_one_does_and_one_of_them_evaluates(tmp_path):
    runs = {}
    for name, options in {
        "ddp": ("trainer=ddp", "trainer.precision=32-true", "trainer.devices=2"),
        "fsdp": ("trainer=fsdp", "trainer.strategy.param_dtype=null", "trainer.devices=2"),
        "alone": ("trainer=cpu", "trainer.precision=32-true", "evaluate=false"),
    }.items():
        processes = 0 if name == "alone" else 2
        options = ("experiment=psft", *options)
        done = train(tmp_path, *TINY, *options, f"output_dir={name}", processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        runs[name] = next((tmp_path / name).glob("psft-*"))
    expected = losses(runs["alone"])
    assert len(expected) == 3
    for name in ("ddp", "fsdp"):
        assert losses(runs[name])[0] == pytest.approx(expected[0], rel=1e-5)
        assert losses(runs[name]) == pytest.approx(expected, rel=1e-2)  # AdamW enlarges rounding
        metrics = json.loads((runs[name] / "metrics.json").read_text())
        assert metrics["summary"]["psft"]["sim_seen"]["l2"]["n"] == 3
