"""A checkpoint covers its step's log and validation; damaged ones are one sentence."""

from __future__ import annotations

import csv
import random
import resource
import signal
import time
from pathlib import Path

import lightning
import pytest
import torch

from pisa.callbacks.checkpoints import StepCheckpoint, newest_checkpoint
from pisa.callbacks.ema import EMA
from pisa.callbacks.loggers import CSVLogger
from pisa.callbacks.throughput import StepLearningRate
from pisa.errors import PisaError
from pisa.io.lightning_internals import LIGHTNING_VERSION, AtomicCheckpointIO
from pisa.tasks.gradient_steps import RandomSteps
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from tests.processes import processes
from tests.tasks.test_oro import Similarity
from tests.tasks.toy import ToyData, make_trainer, toy_model


def test_the_private_counters_are_those_of_the_pinned_lightning():
    pins = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'"lightning=={LIGHTNING_VERSION}"' in pins
    assert lightning.__version__ == LIGHTNING_VERSION


class Crash(Exception):
    pass


def oro() -> ORO:
    """With every kind of draw: noise, the window of replayed steps, the regulariser's."""
    options = {"gradient_window": RandomSteps(1), "replay": True, "other_steps": "frozen"}
    return ORO(
        toy_model(), Similarity(), lr=1e-2, num_steps=2, guidance=2.0, psft_weight=0.1, **options
    )


def psft() -> PSFT:
    return PSFT(toy_model(), lr=1e-2)


def run(folder: Path, steps: int = 10, crash_at: str | None = None, build=psft, **options) -> Path:
    """A run with a checkpoint every 2 steps and validation every 4; goes on where it stopped."""
    task = build()
    step, _, hook = (crash_at or "0 none").partition(" ")

    def crash(*args, **kwargs):
        if task.global_step == int(step):
            raise Crash

    if crash_at:
        setattr(task, hook, crash)
    trainer = make_trainer(
        folder,
        steps,
        EMA(0.9),
        StepLearningRate(logging_interval="step"),
        StepCheckpoint(folder / "checkpoints", 2),
        logger=CSVLogger(folder, name="", version="csv"),
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
        **{"val_check_interval": 4} | options,
    )
    checkpoint = newest_checkpoint(folder / "checkpoints")
    data = ToyData(num_clips=7, loaders=2)
    try:
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    except Crash:
        return folder
    trainer.save_checkpoint(folder / "end.ckpt")
    return folder


@pytest.mark.parametrize(
    "crash_at",
    [
        "4 on_validation_start",
        "4 on_validation_epoch_end",
        "4 on_train_batch_start",
        "5 on_train_batch_end",
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_crash_anywhere_leaves_no_trace_after_a_resume(tmp_path, crash_at, accumulate):
    options = {"accumulate_grad_batches": accumulate, "val_check_interval": 4 * accumulate}
    straight = run(tmp_path / "straight", **options)
    crashed = run(tmp_path / "crashed", crash_at=crash_at, **options)
    assert not (crashed / "end.ckpt").exists()
    run(crashed, **options)
    logs = [(f / "csv" / "metrics.csv").read_text() for f in (straight, crashed)]
    assert logs[0] == logs[1]
    assert logs[0].count("\n") > 10 and "val/loss" in logs[0]
    a, b = (torch.load(f / "end.ckpt", weights_only=True) for f in (straight, crashed))
    for part in ("state_dict", "ema_denoiser"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resume_with_another_validation_interval_logs_the_same_steps(tmp_path, accumulate):
    def interval(steps: int) -> dict[str, int]:
        return {"accumulate_grad_batches": accumulate, "val_check_interval": steps * accumulate}

    straight = run(tmp_path / "straight", **interval(2))
    crashed = run(tmp_path / "crashed", crash_at="5 on_train_batch_end", **interval(2))
    run(crashed, **interval(3))
    losses = []
    for folder in (straight, crashed):
        with (folder / "csv" / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        losses.append([(row["step"], row["train/loss"]) for row in rows if row["train/loss"]])
    assert losses[0] == losses[1] and len(losses[0]) == 10


@pytest.mark.parametrize("build", [psft, oro])
def test_kill_9_at_a_random_moment_and_a_resume_repeat_the_run(tmp_path, build):
    """A process of its own, killed from outside three times; the last one runs to the end."""
    steps, rng = 60, random.Random()
    straight, killed = run(tmp_path / "straight", steps, build=build), tmp_path / "killed"
    resumed_from = []
    for _ in range(3):
        process = processes.Process(target=run, args=(killed, steps), kwargs={"build": build})
        process.start()
        before = newest_checkpoint(killed / "checkpoints")
        while newest_checkpoint(killed / "checkpoints") == before and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        resumed_from.append(newest_checkpoint(killed / "checkpoints"))
    assert not (killed / "end.ckpt").exists()
    assert len(set(resumed_from)) == 3  # each killed run had got further
    run(killed, steps, build=build)
    logs = [(f / "csv" / "metrics.csv").read_bytes() for f in (straight, killed)]
    assert logs[0] == logs[1]
    a, b = (torch.load(f / "end.ckpt", weights_only=True) for f in (straight, killed))
    for part in ("state_dict", "ema_denoiser"):
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    states = [c["optimizer_states"][0]["state"] for c in (a, b)]
    assert all(
        torch.equal(states[0][i][k], states[1][i][k]) for i in states[0] for k in states[0][i]
    )
    assert a["gradient_guard"] == b["gradient_guard"]


def test_a_checkpoint_that_is_removed_meanwhile_is_passed_over(tmp_path):
    """As a run in progress removes its older ones; a broken link is listed and cannot be read."""
    (tmp_path / "step_000002.ckpt").symlink_to(tmp_path / "removed")
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / "step_000004.ckpt").touch()
    assert newest_checkpoint(tmp_path) == tmp_path / "step_000004.ckpt"


def test_the_newest_alone_is_kept(tmp_path):
    folder = run(tmp_path)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step_000008.ckpt"]
    assert newest_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("keep", [0, 0.3, 0.97])
def test_a_truncated_checkpoint_is_one_sentence(tmp_path, keep):
    folder = run(tmp_path, steps=3)
    path = newest_checkpoint(folder / "checkpoints")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(
        PisaError, match=r"cannot resume from .*step_000002\.ckpt, which is damaged"
    ):
        run(folder, steps=5)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("unpickled",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(PisaError, match="damaged or not a training checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)


def test_a_checkpoint_that_finds_no_room_says_so(tmp_path):
    """A limit on file sizes stands for a full disk; torch raises an error of its own over it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(PisaError, match=r"cannot write .*: File too large$"):
            AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(100_000)}, tmp_path / "a.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    class Breaks:
        def __reduce__(self):
            raise RuntimeError("disk full")

    path = tmp_path / "step.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(2)}, path)
    before = path.read_bytes()
    with pytest.raises(PisaError, match="cannot write"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2), "b": Breaks()}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["step.ckpt"]


def test_a_checkpoint_with_nan_is_not_resumed(tmp_path):
    state = {"weight": torch.tensor([1.0, float("nan")])}
    torch.save({"state_dict": state}, tmp_path / "nan.ckpt")
    with pytest.raises(PisaError, match=r"nan\.ckpt holds NaN or infinity .*first: weight"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "nan.ckpt")
