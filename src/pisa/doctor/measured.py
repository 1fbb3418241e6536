"""One training step at full size: seconds by part, and peak memory beside the planner's.

Memory is the process's resident memory, so this is for the CPU (debug=full_size).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from pisa.doctor.planner import GB, Job, Plan, Planner, Setting, module_bytes
from pisa.doctor.teachers import REWARDS
from pisa.models.lora import adapter_config
from pisa.rewards.base import reward_name
from pisa.tasks.base import denoiser_of, model_of
from pisa.tasks.oro import ORO
from pisa.types import Batch

ASSUMED_KEY = "assumed (driver, fragments)"  # of a GPU; on the CPU the process itself is measured
M_MMAP_THRESHOLD = -3  # malloc.h
# Tensors of this size are mapped, and given back when they are freed. Many of SAM 2's activations
# have 0.25 to 1 MB: from glibc's heap they leave holes that stay resident until the step's end.
MMAP_BYTES = 2**17
_CHUNKS = ("pairs_per_chunk", "frames_per_chunk", "recompute_frames")


class MeasuredStep(pl.Callback):
    """Prints where the time of the first step goes, its peak memory, and what was computed for it.

    Time is the processor's and the clock's, which differ where the processor is shared. A part that
    is computed again in backward counts as backward; the optimiser's includes clipping.
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._running: str | None = None
        self._marks: dict[str, tuple[float, float]] = {}  # processor time, clock
        self._idle_bytes = 0
        # Else glibc's heap keeps the holes between long-lived tensors, which the planner can't see.
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model = model_of(pl_module)
        for name, part in (
            ("encode", "encode"),
            ("encode_first_frame", "encode"),
            ("velocity", "denoiser forward"),
            ("decode", "decode"),
        ):
            setattr(model, name, self._timed(part, getattr(model, name)))
        if isinstance(pl_module, ORO):
            reward = pl_module.reward
            reward.forward = self._timed("teacher", reward.forward)  # type: ignore[method-assign]
        reset_peak()
        self._idle_bytes = resident_memory() - held_bytes(pl_module)
        self._marks["step"] = _now()

    def on_before_backward(self, *args: Any) -> None:
        self._begin("backward")

    def on_after_backward(self, *args: Any) -> None:
        self._end("backward")

    def on_before_optimizer_step(self, *args: Any) -> None:
        self._begin("optimiser")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step != 1 or "step" not in self._marks:
            return
        self._end("optimiser")
        cpu_s, wall_s = _since(self._marks.pop("step"))
        peak = max(self.peaks.values())
        norm = float(trainer.callback_metrics["train/gradient_norm"])
        print(f"step: {cpu_s:.1f} s of processor time, {wall_s:.1f} s; gradient norm {norm:.4g}")
        plan = self.computed(pl_module, batch)
        computed = self._idle_bytes + plan.total
        print(f"  {'Python and libraries, measured':42}{self._idle_bytes / GB:8.2f} GB")
        for name, size in (*plan.resident.items(), *plan.phases.items()):
            print(f"  {name:42}{size / GB:8.2f} GB")
        print(
            f"peak memory: {peak / GB:.2f} GB measured, {computed / GB:.2f} GB computed "
            f"({computed / peak - 1:+.1%})",
            flush=True,
        )

    def computed(self, task: pl.LightningModule, batch: Batch) -> Plan:
        """The planner's bytes for this step; AdamW has no moments before its first step."""
        plan = Planner(job_of(task, batch)).plan(setting_of(task, batch), gpus=1)
        for name in (ASSUMED_KEY, "AdamW moments"):
            plan.resident.pop(name)
        return plan

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            with self._part(part):
                return function(*args, **options)

        return timed

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        if self._running is not None or "step" not in self._marks:  # inside another part
            yield
            return
        self._begin(name)
        yield
        self._end(name)

    def _begin(self, name: str) -> None:
        self._running = name
        self._marks[name] = _now()

    def _end(self, name: str) -> None:
        self._running = None
        cpu_s, wall_s = _since(self._marks.pop(name))
        self.cpu_s[name] = self.cpu_s.get(name, 0.0) + cpu_s
        self.peaks[name] = max(self.peaks.get(name, 0), peak_memory())
        reset_peak()
        now, peak = resident_memory() / GB, self.peaks[name] / GB
        times = f"{cpu_s:9.1f} s of processor time, {wall_s:9.1f} s"
        print(f"  {name:20}{times}   peak {peak:6.2f} GB, then {now:6.2f} GB", flush=True)


def job_of(task: pl.LightningModule, batch: Batch) -> Job:
    """The planner's name for this training."""
    denoiser = denoiser_of(task)
    config = adapter_config(denoiser)
    job = Job(
        num_frames=batch.video.shape[2],
        size_px=batch.video.shape[-1],
        lora_rank=None if config is None else config["r"],
        dtype=str(next(p.dtype for p in denoiser.parameters())).removeprefix("torch."),
    )
    if not isinstance(task, ORO):
        return job
    return replace(
        job,
        stage="oro",
        reward=reward_name(task.reward),
        num_steps=task.rollout.num_steps,
        guidance=task.rollout.guidance,
    )


def setting_of(task: pl.LightningModule, batch: Batch) -> Setting:
    """The planner's name for this task's settings, on one device."""
    blocks = bool(getattr(denoiser_of(task), "grad_checkpoint", False))
    if not isinstance(task, ORO):
        return Setting(recompute_blocks=blocks, clips=len(batch))
    chunks = [getattr(m, k) for m in task.reward.modules() for k in _CHUNKS if hasattr(m, k)]
    chunk = int(chunks[0]) if chunks and chunks[0] else None
    assert reward_name(task.reward) in REWARDS
    return Setting(False, task.checkpoint_steps or task.replay, blocks, chunk)


def held_bytes(task: pl.LightningModule) -> int:
    """Bytes of model, teacher and EMA."""
    trained: list[nn.Parameter] = [p for p in task.parameters() if p.requires_grad]
    average = sum(p.numel() * torch.float32.itemsize for p in trained)
    teacher = module_bytes(task.reward) if isinstance(task, ORO) else 0
    return module_bytes(model_of(task)) + teacher + average


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(mark: tuple[float, float]) -> tuple[float, float]:
    cpu_s, clock_s = _now()
    return cpu_s - mark[0], clock_s - mark[1]


def resident_memory() -> int:
    """Resident bytes of this process now (Linux)."""
    return _status("VmRSS")


def peak_memory() -> int:
    """The most since the last ``reset_peak`` (Linux)."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Give freed memory back to the system, and start the peak again from what is resident."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
