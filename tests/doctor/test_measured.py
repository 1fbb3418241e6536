"""A measured step: every part is timed, and the planner's bytes stand beside the measured."""

from __future__ import annotations

import re

import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks.opensora_gpu import falling_clips
from pisa.callbacks.ema import EMA
from pisa.doctor.measured import MeasuredStep, job_of, resident_memory, setting_of
from pisa.doctor.planner import Job, Setting
from pisa.doctor.teachers import REWARDS
from pisa.models.lora import add_lora
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from pisa.types import collate
from tests.doctor.test_planner import Square, small_model
from tests.processes import processes
from tests.tasks.toy import make_trainer


class NamedSquare(Square):
    name = "flow"
    pairs_per_chunk = 2


@pytest.mark.parametrize("stage", ["psft", "oro"])
def test_every_part_of_a_step_is_timed_and_memory_is_computed_beside(
    stage, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("pisa.doctor.planner.full_size", lambda dtype: small_model())
    build = REWARDS["flow"]._replace(build=lambda sizes, chunk: Square())
    monkeypatch.setitem(REWARDS, "flow", build)
    model = small_model()
    add_lora(model.denoiser, rank=2)
    steps = {"num_steps": 2, "guidance": 3.0}
    task = PSFT(model) if stage == "psft" else ORO(model, NamedSquare(), **steps)
    measured, batch = MeasuredStep(), collate(falling_clips(1, frames=8, size=32))
    trainer = make_trainer(tmp_path, 1, EMA(0.9), measured)
    trainer.fit(task, DataLoader([batch], batch_size=None))
    own = {"decode", "teacher"} if stage == "oro" else set()
    assert set(measured.cpu_s) == {"encode", "denoiser forward", "backward", "optimiser"} | own
    assert all(seconds > 0 for seconds in measured.cpu_s.values())
    printed = capsys.readouterr().out
    numbers = re.search(
        r"peak memory: (\S+) GB measured, (\S+) GB computed \(([+-]\S+)%\)", printed
    )
    assert numbers is not None and float(numbers[1]) > 0.2
    assert "AdamW moments" not in printed and "EMA" in printed
    job = Job(stage, num_frames=8, size_px=32, lora_rank=2, **(steps if stage == "oro" else {}))
    assert job_of(task, batch) == job
    chunk = 2 if stage == "oro" else None
    assert setting_of(task, batch) == Setting(False, stage == "oro", False, chunk)


def test_freed_tensors_between_live_ones_are_not_measured():
    """As in the backward pass with SAM 2, whose activations of this size the heap would keep.

    In a process of its own: the heap of this one has holes of other tests, which it fills first.
    """
    with processes.Pool(1) as pool:
        full, held = pool.apply(_held_of_full)
    assert full > 0.9 * 2**18 * 400
    assert held < 0.6 * full


def _held_of_full() -> tuple[int, int]:
    """Resident bytes of 400 tensors of 0.25 MB, and after every other one is freed."""
    MeasuredStep()
    before = resident_memory()
    tensors = [torch.ones(2**16) for _ in range(400)]
    full = resident_memory() - before
    del tensors[::2]
    return full, resident_memory() - before
