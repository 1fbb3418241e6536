"""kill -9 in the middle of `train.py` and the same command again: the same weights and logs.

tests/callbacks/test_step_checkpoint.py does the same with a toy model in seconds.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
STEPS = 12


def command(folder: Path, runs: str, *overrides: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "train.py"),
        "experiment=psft",
        f"data_dir={folder / 'data'}",
        f"output_dir={folder / runs}",
        "simulation.datasets.psft.num_clips=5",
        "simulation.datasets.sim_seen.num_clips=2",
        "simulation.datasets.sim_unseen.num_clips=1",
        f"psft.max_steps={STEPS}",
        "psft.batch_size=2",
        "checkpoint_every=2",
        "validate_every=4",
        "trainer.log_every_n_steps=1",
        "evaluate=false",
        "logger=csv",
        "callbacks.throughput=null",  # times are no part of what repeats
        "callbacks.samples=null",
        "model.denoiser.depth=2",
        "model.weights=null",
        *overrides,
    ]


def start(folder: Path, runs: str, *overrides: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with (folder / f"{runs}.log").open("a") as log:
        return subprocess.Popen(
            command(folder, runs, *overrides), cwd=folder, env=environment, stdout=log, stderr=log
        )


def finish(folder: Path, runs: str, *overrides: str) -> Path:
    process = start(folder, runs, *overrides)
    assert process.wait(timeout=280) == 0, (folder / f"{runs}.log").read_text()[-3000:]
    return next((folder / runs).glob("psft-*"))


def kill_at_random(folder: Path, runs: str, rng: random.Random, *overrides: str) -> int:
    """SIGKILL at a random moment after the first checkpoint; returns the steps logged by then."""
    process = start(folder, runs, *overrides)
    wanted = rng.randint(3, STEPS - 2)
    deadline = time.monotonic() + 240
    while logged_steps(folder / runs) < wanted and time.monotonic() < deadline:
        assert process.poll() is None, (folder / f"{runs}.log").read_text()[-3000:]
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return logged_steps(folder / runs)


def logged_steps(runs: Path) -> int:
    return len(rows(next(runs.glob("psft-*"), runs)))


def rows(run: Path) -> list[dict[str, str]]:
    path = run / "csv" / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def assert_same(run: Path, reference: Path) -> None:
    found, expected = (load_file(f / "weights.safetensors") for f in (run, reference))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    logs = [(f / "csv" / "metrics.csv").read_bytes() for f in (run, reference)]
    assert logs[0] == logs[1]
    checkpoints = [sorted((f / "checkpoints").glob("*.ckpt")) for f in (run, reference)]
    assert [p.name for p in checkpoints[0]] == [p.name for p in checkpoints[1]]


@pytest.mark.slow
def test_killed_three_times_at_random_and_resumed(tmp_path):
    """Also with latents on disk, which the killed runs leave behind half filled."""
    reference = finish(tmp_path, "straight")
    rng = random.Random()
    for _ in range(3):
        logged = kill_at_random(tmp_path, "killed", rng, f"psft.task.latent_cache_dir={tmp_path}/z")
        assert 0 < logged < STEPS
    run = finish(tmp_path, "killed", f"psft.task.latent_cache_dir={tmp_path}/z")
    assert run.name == reference.name
    assert_same(run, reference)
    assert len(rows(run)) == STEPS
