"""Which settings of ORO with Open-Sora v1.2 fit a GPU.

`python -m pisa.tasks.oro_planner --reward flow --memory-gb 40 [--lora-rank 16]`

prints what the step takes by component, and overrides for `train.py`. Every number is computed on
torch's "meta" device, none is measured. All settings have the full gradient of the paper: per-step
checkpointing already takes the memory of one denoising step, so that fewer steps with gradient
(`LastSteps`, `RandomSteps`) or replay save time, not memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from pisa.models.opensora.doctor import FLOAT32, GIB, OVERHEAD_GIB, count
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.vae import OpenSoraVAE
from pisa.tasks.oro_memory import Job, Setting, chain_bytes, reward_bytes, state
from pisa.tasks.oro_teachers import REWARDS, Teacher, build_teacher

GB = 10**9
BFLOAT16 = 2
CHUNKS = (None, 8, 4, 1)


@dataclass(frozen=True)
class Plan:
    """A setting and its bytes by component; of the two phases of a step the larger one counts."""

    setting: Setting
    standing: dict[str, int]
    reward_phase: int
    chain_phase: int

    @property
    def total(self) -> int:
        return sum(self.standing.values()) + max(self.reward_phase, self.chain_phase)


class Planner:
    """Counts settings one by one, fastest first, and remembers what it has counted."""

    def __init__(self, reward: str, job: Job) -> None:
        with torch.device("meta"):
            self.network = STDiT3(freeze_y_embedder=True, class_dropout_prob=0.0)
            self.vae = OpenSoraVAE().requires_grad_(False).to(torch.bfloat16)
        self.reward, self.job = reward, job
        self.teacher: Teacher = build_teacher(reward)
        self._chain: dict[tuple[bool, bool], int] = {}
        self._rewards: dict[tuple[bool, int | None], int] = {}

    def settings(self) -> Iterator[Setting]:
        """From the fastest (nothing is computed twice) to the smallest."""
        chunks = CHUNKS if self.teacher.chunks else (None, 1)
        for (steps, blocks), chunk in product(
            ((False, False), (False, True), (True, False), (True, True)), chunks
        ):
            yield Setting(steps, blocks, chunk)

    def chain(self, setting: Setting) -> int:
        key = setting.checkpoint_steps, setting.recompute_blocks
        if key not in self._chain:
            self._chain[key] = chain_bytes(self.network, self.vae, self.job, setting)
        return self._chain[key]

    def plan(self, setting: Setting) -> Plan:
        chain = self.chain(setting)
        reward = setting.recompute_blocks, setting.chunk
        if reward not in self._rewards:
            score = self.teacher.score(self.job, setting.chunk)
            self._rewards[reward] = reward_bytes(
                self.vae, score, self.job, setting.recompute_blocks
            )
        return Plan(setting, self.standing(), self._rewards[reward], chain)

    def standing(self) -> dict[str, int]:
        """What is there all the time."""
        return state(self.network, self.job.lora_rank) | {
            "bfloat16 copies": BFLOAT16 * count(self.network),  # of autocast
            "VAE": BFLOAT16 * count(self.vae),
            "teacher": FLOAT32 * count(self.teacher.network),
            "assumed": int(OVERHEAD_GIB * GIB),
        }

    def choose(self, memory_bytes: float) -> tuple[Plan, bool]:
        """The fastest plan that fits, or the smallest of all and False."""
        plans = []
        standing = sum(self.standing().values())
        for setting in self.settings():
            smallest = setting.checkpoint_steps and setting.recompute_blocks
            if standing + self.chain(setting) > memory_bytes and not smallest:
                continue  # whatever the chunk
            plans.append(self.plan(setting))
            if plans[-1].total <= memory_bytes:
                return plans[-1], True
        return min(plans, key=lambda plan: plan.total), False


def overrides(plan: Plan, reward: str, lora_rank: int | None) -> list[str]:
    """The plan as arguments of ``train.py``."""
    setting = plan.setting
    chosen = [
        f"experiment=oro_{REWARDS[reward].experiment}",
        "scale=paper",
        "trainer=ddp",
        "oro.batch_size=1",
        f"oro.task.checkpoint_steps={str(setting.checkpoint_steps).lower()}",
        f"model.grad_checkpoint={str(setting.recompute_blocks).lower()}",
    ]
    if setting.chunk is not None:
        chosen.append(REWARDS[reward].override.format(setting.chunk))
    if lora_rank is not None:
        chosen.append(f"oro.lora={{rank:{lora_rank}}}")
    return chosen


def report(reward: str, memory_gb: float, job: Job) -> str:
    """The table and the command as text."""
    planner = Planner(reward, job)
    plan, fits = planner.choose(memory_gb * GB)
    kind = "all parameters" if job.lora_rank is None else f"LoRA of rank {job.lora_rank}"
    lines = [
        f"ORO ({reward}) with Open-Sora v1.2, {job.num_frames} frames of {job.size_px}x"
        f"{job.size_px}, {job.num_steps} steps, guidance {job.guidance:g}, one clip, {kind}.",
        "All numbers are computed on the meta device, none is measured.",
        "",
        *(f"  {name:24}{size / GB:8.2f} GB" for name, size in plan.standing.items()),
        f"  {'decoder and reward':24}{plan.reward_phase / GB:8.2f} GB, or",
        f"  {'denoising steps':24}{plan.chain_phase / GB:8.2f} GB, whichever is more",
        f"  {'sum':24}{plan.total / GB:8.2f} GB",
        "",
        "Activations of the denoiser count as float32, an upper bound under autocast; the driver",
        f"and fragments are assumed to take {OVERHEAD_GIB:g} GiB.",
    ]
    verdict = "fits" if fits else "DOES NOT FIT; the smallest setting of all is"
    lines += [f"{memory_gb:g} GB: {verdict}", "  python train.py \\"]
    lines += [f"    {item} \\" for item in overrides(plan, reward, job.lora_rank)]
    return "\n".join(lines).removesuffix(" \\")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pisa.tasks.oro_planner")
    parser.add_argument("--reward", choices=list(REWARDS), default="flow")
    parser.add_argument("--memory-gb", type=float, default=40.0, help="10^9 bytes")
    parser.add_argument("--lora-rank", type=int, default=None, help="default: train everything")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=256, help="side of a clip in pixels")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=4.0)
    given = parser.parse_args()
    job = Job(given.frames, given.size, given.steps, given.guidance, given.lora_rank)
    print(report(given.reward, given.memory_gb, job))


if __name__ == "__main__":
    main()
