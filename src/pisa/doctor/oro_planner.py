"""Which settings of ORO with Open-Sora v1.2 fit a GPU.

`pisa memory oro --reward flow --memory-gb 40 [--lora-rank 16]`

prints what a step takes and overrides for `train.py`. The step's own code runs with tensors that
have no storage, so every number is computed and none measured; that takes minutes. All settings
have the full gradient of the paper: per-step checkpointing already takes the memory of one
denoising step, so that fewer steps with gradient (`LastSteps`, `RandomSteps`) or replay save time,
not memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pisa.doctor.live_bytes import TooManyBytes, Unstored
from pisa.doctor.oro_memory import (
    Job,
    Setting,
    StepBytes,
    WatchedModel,
    count_step,
    optimiser_bytes,
    standing_bytes,
)
from pisa.doctor.oro_teachers import REWARDS
from pisa.models.lora import add_lora
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.vae import OpenSoraVAE
from pisa.models.tiny_text import WordHashEncoder

GB = 10**9
ASSUMED = 2 * GB  # CUDA's context, workspaces of kernels, fragments
RECOMPUTED = ((False, False), (True, False), (False, True), (True, True))  # fastest first
"""(steps, blocks); recomputed blocks include the decoder's micro batches."""


@dataclass(frozen=True)
class Plan:
    """A setting that fits, and its bytes."""

    setting: Setting
    standing: dict[str, int]
    step: StepBytes
    optimiser: int

    @property
    def total(self) -> int:
        return sum(self.standing.values()) + max(self.step.peak, self.optimiser)


class Planner:
    """Tries settings from the fastest to the smallest.

    Args:
        build: makes the model on "meta"; None is the released size.
    """

    def __init__(
        self, reward: str, job: Job, build: Callable[[], WatchedModel] | None = None
    ) -> None:
        self.job, self.row, self.sizes = job, REWARDS[reward], Unstored()
        with torch.device("meta"):
            model = (build or full_size)()
            if job.lora_rank is not None:
                add_lora(model.denoiser, job.lora_rank)
        self.model = self.sizes.module(model)

    def choose(self, memory_bytes: float) -> Plan | None:
        """The first setting that fits; None where none does."""
        for steps, blocks in RECOMPUTED:
            for chunk in self.row.chunks:
                setting = Setting(steps, blocks, chunk)
                plan = self.count(setting, memory_bytes)
                if plan is not None and plan.total <= memory_bytes:
                    return plan
                if not self._reward_is_to_blame(plan):
                    break  # a smaller chunk would not help
        return None

    def count(self, setting: Setting, memory_bytes: float | None = None) -> Plan | None:
        """Bytes of a setting; None as soon as they exceed ``memory_bytes``."""
        reward = self.row.build(self.sizes, setting.chunk)
        standing = standing_bytes(self.model, reward) | {"assumed": ASSUMED}
        limit = None if memory_bytes is None else int(memory_bytes) - sum(standing.values())
        try:
            step = count_step(self.model, reward, self.sizes, self.job, setting, limit)
        except TooManyBytes:
            return None
        return Plan(setting, standing, step, optimiser_bytes(self.model))

    def _reward_is_to_blame(self, plan: Plan | None) -> bool:
        """Whether the most, or what was too much, was alive while the reward was computed."""
        if plan is not None:
            return plan.step.to_reward > plan.step.steps
        return self.model.decoding and self.model.to_reward is None


def full_size() -> WatchedModel:
    """Open-Sora v1.2 as ``scale=paper`` builds it, but for the weights and the text encoder."""
    network = STDiT3(freeze_y_embedder=True, class_dropout_prob=0.0)
    vae = OpenSoraVAE().to(torch.bfloat16)
    return WatchedModel(network, vae, WordHashEncoder(1, 1))


def overrides(setting: Setting, reward: str, job: Job) -> list[str]:
    """A setting as arguments of ``train.py``, for one GPU."""
    row = REWARDS[reward]
    chosen = [
        f"experiment=oro_{row.experiment}",
        "scale=paper",
        "trainer=ddp",
        "trainer.devices=1",
        "trainer.strategy=auto",  # one process needs none of DDP's buckets
        "oro.batch_size=1",
        f"data.num_frames={job.num_frames}",
        f"simulation.backend.num_frames={job.num_frames}",
        f"simulation.backend.resolution={job.size_px}",
        f"data.expect_size=[{job.size_px},{job.size_px}]",
        f"oro.task.num_steps={job.num_steps}",
        f"oro.task.guidance={job.guidance:g}",
        f"oro.task.checkpoint_steps={str(setting.checkpoint_steps).lower()}",
        f"model.grad_checkpoint={str(setting.recompute_blocks).lower()}",
    ]
    if setting.chunk is not None:
        chosen.append(row.override.format(setting.chunk))
    if job.lora_rank is not None:
        chosen.append(f"oro.lora={{rank:{job.lora_rank}}}")
    return chosen


def report(reward: str, memory_gb: float, job: Job) -> str:
    """The table and the command as text."""
    kind = "all parameters" if job.lora_rank is None else f"LoRA of rank {job.lora_rank}"
    lines = [
        f"ORO ({reward}) with Open-Sora v1.2, {job.num_frames} frames of {job.size_px}x"
        f"{job.size_px}, {job.num_steps} steps, guidance {job.guidance:g}, one clip, {kind}.",
        "All numbers are computed, none is measured.",
        "",
    ]
    plan = Planner(reward, job).choose(memory_gb * GB)
    if plan is None:
        smaller = "" if job.lora_rank is not None else ", or --lora-rank"
        return "\n".join(
            [*lines, f"{memory_gb:g} GB: no setting fits; fewer frames, a smaller size{smaller}"]
        )
    lines += [f"  {name:42}{size / GB:8.2f} GB" for name, size in plan.standing.items()]
    lines += [
        f"  {'sampling, decoder, reward and back':42}{plan.step.to_reward / GB:8.2f} GB, or",
        f"  {'denoising steps in reverse, gradients':42}{plan.step.steps / GB:8.2f} GB, or",
        f"  {'gradients and the step of AdamW':42}{plan.optimiser / GB:8.2f} GB, the largest",
        f"  {'sum':42}{plan.total / GB:8.2f} GB",
        "",
        f"It fits {memory_gb:g} GB with",
        "  python train.py \\",
    ]
    lines += [f"    {item} \\" for item in overrides(plan.setting, reward, job)]
    return "\n".join(lines).removesuffix(" \\")
