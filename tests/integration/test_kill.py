"""kill -9 in the middle of `train.py` and the same command again: the same weights and logs.

tests/callbacks/test_step_checkpoint.py does the same with a toy model in seconds.
"""

from __future__ import annotations

import csv
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.contracts.test_budget import METHODS
from tests.processes import end, start_script

STEPS = 12
SMALL = (
    "simulation.datasets.psft.num_clips=5",
    "simulation.datasets.oro.num_clips=5",
    "simulation.datasets.sim_seen.num_clips=2",
    "simulation.datasets.sim_unseen.num_clips=1",
    "psft.batch_size=2",
    "oro.batch_size=2",
    "checkpoint_every=2",
    "validate_every=4",
    "trainer.log_every_n_steps=1",
    "evaluate=false",
    "logger=csv",
    "callbacks.throughput=null",  # times are no part of what repeats
    "callbacks.samples=null",
    "model.denoiser.depth=2",
    "model.weights=null",
)
PSFT = ("experiment=psft", f"psft.max_steps={STEPS}")


def start(folder: Path, runs: str, *overrides: str) -> BaseProcess:
    output = folder / f"{runs}_said"
    output.mkdir(exist_ok=True)
    where = (f"data_dir={folder / 'data'}", f"output_dir={folder / runs}")
    return start_script("train.py", *SMALL, *where, *overrides, cwd=folder, output=output)


def said(folder: Path, runs: str) -> str:
    return (folder / f"{runs}_said" / "stderr").read_text()[-3000:]


def finish(folder: Path, runs: str, name: str, *overrides: str) -> Path:
    process = start(folder, runs, *overrides)
    end([process], 280)
    assert process.exitcode == 0, said(folder, runs)
    return next((folder / runs).glob(f"{name}-*"))


def kill_at_random(folder: Path, runs: str, name: str, rng: random.Random, *overrides: str) -> int:
    """SIGKILL at a random moment after the first checkpoint; returns the steps logged by then."""
    process = start(folder, runs, *overrides)
    wanted = rng.randint(3, STEPS - 2)
    deadline = time.monotonic() + 240
    while logged_steps(folder / runs, name) < wanted and time.monotonic() < deadline:
        assert process.is_alive(), said(folder, runs)
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.join()
    return logged_steps(folder / runs, name)


def logged_steps(runs: Path, name: str) -> int:
    return len(rows(next(runs.glob(f"{name}-*"), runs)))


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
    reference = finish(tmp_path, "straight", "psft", *PSFT)
    cached = (*PSFT, f"psft.task.latent_cache_dir={tmp_path}/z")
    rng = random.Random()
    for _ in range(3):
        logged = kill_at_random(tmp_path, "killed", "psft", rng, *cached)
        assert 0 < logged < STEPS
    run = finish(tmp_path, "killed", "psft", *cached)
    assert run.name == reference.name
    assert_same(run, reference)
    assert len(rows(run)) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_killed_in_stage_2_and_resumed(tmp_path, method):
    settings = (f"experiment={method}", "psft.max_steps=2", f"oro.max_steps={STEPS}")
    if method != "more_psft":
        settings += ("oro.task.num_steps=2",)
    reference = finish(tmp_path, "straight", method, *settings)
    logged = kill_at_random(tmp_path, "killed", method, random.Random(), *settings)
    assert 0 < logged < STEPS
    run = finish(tmp_path, "killed", method, *settings)
    assert run.name == reference.name
    assert_same(run, reference)
    assert len(rows(run)) == STEPS
