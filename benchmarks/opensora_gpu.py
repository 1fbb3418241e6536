"""Seconds per step and peak memory of the full-size Open-Sora v1.2 on one GPU, random weights.

    python benchmarks/opensora_gpu.py [psft] [oro] [--clips 8] [--steps 4]

PSFT: 32 frames of 256x256, bfloat16 arithmetic by autocast, float32 master weights, AdamW, EMA;
blocks recomputed or kept, compiled or not. ORO: one clip, 10 steps with guidance 4, every step
recomputed, for each of the paper's rewards (teachers of full size, random weights). Speed and
memory do not depend on what the weights are, so nothing is downloaded.

The first step (compilation, optimiser state) is left out of the time; memory is the most that
torch's allocator held in the later steps. Prints a Markdown table. Without a GPU it measures
nothing, says so, and ends with code 2.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from pisa.callbacks.ema import EMA
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from pisa.types import Batch, Clip, Condition, collate

GIB = 1024**3
TOKENS, CHANNELS = 300, 4096  # of T5 v1.1 XXL
REWARDS = ("segmentation", "flow", "depth")
NO_GPU = "no CUDA device here"


@dataclass
class Measured(pl.Callback):
    """Seconds of each step after the first, and the most bytes the allocator held in them."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_bytes: int | None = None  # None on the CPU
    _started: float = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 1 and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        _wait()
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        _wait()
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step > 1:
            self.seconds.append(time.perf_counter() - self._started)
        if pl_module.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated()

    @property
    def step_s(self) -> float:
        return statistics.median(self.seconds)


class RandomCaptions:
    """In the place of T5: a random embedding of its size with 12 real tokens."""

    def __init__(self, tokens: int = TOKENS, channels: int = CHANNELS) -> None:
        self.embedding = torch.randn(tokens, channels, generator=torch.Generator().manual_seed(1))

    def __call__(self, captions: Sequence[str]) -> Condition:
        mask = torch.arange(len(self.embedding)) < 12
        rows = len(captions)
        return Condition(self.embedding.expand(rows, -1, -1), mask.expand(rows, -1))


def full_size(grad_checkpoint: bool = True) -> OpenSoraModel:
    """STDiT3-XL/2 in float32 and VAE v1.2 in bfloat16, both random."""
    torch.manual_seed(0)
    denoiser = STDiT3(
        class_dropout_prob=0.0, freeze_y_embedder=True, grad_checkpoint=grad_checkpoint
    )
    nn.init.normal_(denoiser.final_layer.linear.weight, std=0.02)  # else nothing has gradient
    vae = OpenSoraVAE(grad_checkpoint=True).to(torch.bfloat16)
    return OpenSoraModel(denoiser, vae, RandomCaptions())


def teacher_reward(name: str) -> nn.Module:
    """One of ``REWARDS`` with a teacher of the paper's size, random weights."""
    if name == "segmentation":
        from pisa.perception.sam2 import SAM2Tracker
        from pisa.rewards.segmentation import SegmentationReward

        return SegmentationReward(SAM2Tracker.random(image_size=256))
    if name == "flow":
        from pisa.perception.raft import RAFT
        from pisa.rewards.flow import FlowReward

        return FlowReward(RAFT.random())
    from pisa.perception.depth_anything import DepthAnything
    from pisa.rewards.depth import DepthReward

    return DepthReward(DepthAnything.random())


def falling_clips(count: int, frames: int = 32, size: int = 256) -> list[Clip]:
    """A bright square that falls over noise."""
    clips = []
    for index in range(count):
        video = torch.rand(3, frames, size, size, generator=torch.Generator().manual_seed(index))
        masks = torch.zeros(1, frames, size, size, dtype=torch.bool)
        side = size // 5
        for t in range(frames):
            top = min(size // 8 + t * t * size // 1024, size - side)
            masks[0, t, top : top + side, side : 2 * side] = True
        video[:, masks[0]] = 1.0
        clips.append(Clip(f"clip_{index}", video * 2 - 1, masks, 16.0))
    return clips


def fit(task: pl.LightningModule, clips: list[Clip], batch_size: int, steps: int) -> Measured:
    """Train ``task`` for ``steps`` as ``trainer=ddp`` does, on one device."""
    measured = Measured()
    batches = [clips[i * batch_size : (i + 1) * batch_size] for i in range(steps)]
    loader: DataLoader[Batch] = DataLoader(
        [collate(batch) for batch in batches], batch_size=None, shuffle=False
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            precision="bf16-mixed",
            max_steps=steps,
            gradient_clip_val=1.0,
            callbacks=[EMA(0.99), measured],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(task, loader)
    return measured


def psft(model: OpenSoraModel, clips: list[Clip], batch_size: int, compile: bool) -> Measured:
    """PSFT steps; every clip is encoded in its step, as without a cache of latents."""
    task = PSFT(model, compile=compile)
    return fit(task, clips, batch_size, len(clips) // batch_size)


def oro(
    model: OpenSoraModel, reward: nn.Module, clips: list[Clip], num_steps: int = 10
) -> Measured:
    """ORO steps of one clip each, gradient through all denoising steps."""
    task = ORO(model, reward, num_steps=num_steps, guidance=4.0, decode_chunk=1)
    return fit(task, clips, 1, len(clips))


def row_of(name: str, measure: Callable[[], Measured]) -> str:
    """A row of the table; running out of memory is a result too."""
    with _emptied():
        try:
            found = measure()
        except torch.cuda.OutOfMemoryError:
            return f"| {name} | - | out of memory |"
    peak = "-" if found.peak_bytes is None else f"{found.peak_bytes / GIB:.1f}"
    return f"| {name} | {found.step_s:.2f} | {peak} |"


def rows(parts: Sequence[str], batch_size: int, steps: int) -> Iterator[str]:
    clips = falling_clips(batch_size * steps)
    if "psft" in parts:
        for recompute in (True, False):
            for compiled in (False, True):
                kept = "blocks recomputed" if recompute else "all kept"
                name = f"PSFT, {batch_size} clips, {kept}, {'compiled' if compiled else 'eager'}"
                measure = partial(_psft_of, recompute, clips, batch_size, compiled)
                yield row_of(name, measure)
    if "oro" in parts:
        for name in REWARDS:
            yield row_of(f"ORO, {name}, 1 clip, 10 steps", partial(_oro_of, name, clips[:steps]))


def _psft_of(recompute: bool, clips: list[Clip], batch_size: int, compiled: bool) -> Measured:
    return psft(full_size(recompute), clips, batch_size, compiled)


def _oro_of(name: str, clips: list[Clip]) -> Measured:
    return oro(full_size(), teacher_reward(name), clips)


@contextmanager
def _emptied() -> Iterator[None]:
    try:
        yield
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="psft|oro", help="default: both")
    parser.add_argument("--clips", type=int, default=8, help="of a PSFT step")
    parser.add_argument("--steps", type=int, default=4, help="of each run, the first not timed")
    given = parser.parse_args(arguments)
    parts = given.parts or ["psft", "oro"]  # argparse compares a default list as one choice
    if unknown := set(parts) - {"psft", "oro"}:
        parser.error(f"no part {', '.join(sorted(unknown))}; valid: psft, oro")
    if given.steps < 2:
        parser.error("--steps must be at least 2: the first is not timed")
    if not torch.cuda.is_available():
        wanted = " and ".join(parts)
        print(f"error: {NO_GPU}: nothing of {wanted} was measured", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, {date.today()}, torch {torch.__version__}\n")
    print("| run | seconds per step | peak GiB |\n|---|---|---|")
    for row in rows(parts, given.clips, given.steps):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
