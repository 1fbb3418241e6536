"""GPU memory that PSFT or ORO with Open-Sora v1.2 needs, and the fastest settings that fit.

pisa memory psft                                        a table for GPUs of 24, 40 and 80 GB
pisa memory oro --reward flow [--lora-rank 16]          the same for ORO, one clip per GPU
pisa memory oro --reward flow --memory-gb 40 --gpus 1   a single row: the parts, and the command

All numbers are computed, none is measured: the code of a step runs with tensors that have no
storage, which takes minutes.
"""

from __future__ import annotations

import argparse
from typing import Any

from pisa.doctor.planner import GB, PSFT_CLIPS, Job, Plan, Planner
from pisa.doctor.teachers import REWARDS
from pisa.errors import PisaError
from pisa.ranges import Count, NonNegative, Positive, problem

CARDS_GB = [24.0, 40.0, 80.0]
RANGES = {
    "size": Count,
    "frames": Count,
    "gpus": list[Count],
    "memory_gb": list[Positive],
    "lora_rank": Count | None,
    "steps": Count,
    "guidance": NonNegative,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", choices=["psft", "oro"], metavar="psft|oro")
    parser.add_argument(
        "--memory-gb", type=float, nargs="+", default=CARDS_GB, help="of one GPU, 10^9 bytes"
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--size", type=int, default=256, help="side of a clip in pixels")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--lora-rank", type=int, help="default: train everything")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of frozen weights"
    )
    oro = parser.add_argument_group("oro")
    oro.add_argument("--reward", choices=list(REWARDS), default="flow")
    oro.add_argument("--steps", type=int, default=10)
    oro.add_argument("--guidance", type=float, default=4.0)


def main(given: argparse.Namespace) -> None:
    """Print the table; of a single row also its parts and the command."""
    for name, kind in RANGES.items():
        wrong = problem(getattr(given, name), kind)
        if wrong is not None:
            raise PisaError(f"--{name.replace('_', '-')} {wrong}")
    job = Job(
        given.stage,
        given.reward,
        given.frames,
        given.size,
        given.steps,
        given.guidance,
        given.lora_rank,
        given.dtype,
    )
    if job.dtype != "float32" and job.lora_rank is None:
        raise PisaError("--dtype bfloat16 is for frozen weights: add --lora-rank")
    print(report(job, given.memory_gb, given.gpus))


def report(job: Job, cards_gb: list[float], gpus: list[int]) -> str:
    """The table as text, and the details where it has one row."""
    planner = Planner(job, limit=int(max(cards_gb) * GB))
    plans = {(card, n): planner.choose(card * GB, n) for card in cards_gb for n in gpus}
    kind = "all parameters" if job.lora_rank is None else f"LoRA of rank {job.lora_rank}"
    oro = f"ORO ({job.reward}), {job.num_steps} steps, guidance {job.guidance:g}, a clip per GPU"
    title = oro if job.stage == "oro" else f"PSFT, {PSFT_CLIPS} clips per step"
    lines = [
        f"{title}, of Open-Sora v1.2, {job.num_frames} frames of {job.size_px}x{job.size_px}, "
        f"{kind}.",
        "Computed, not measured: the fastest settings that fit, and one GPU's memory.",
        "",
        f"{'GPU':>7} {'GPUs':>5} {'needs':>8}  settings",
    ]
    for (card, n), plan in plans.items():
        needs = "" if plan is None else f"{plan.total / GB:.1f} GB"
        lines.append(f"{f'{card:g} GB':>7} {n:5} {needs:>8}  {described(plan, job)}")
    if len(plans) == 1 and plan is not None:
        lines += ["", *details(plan, job)]
    elif len(plans) > 1:
        lines += ["", "The whole command: the same with one --memory-gb and one --gpus."]
    return "\n".join(lines)


def described(plan: Plan | None, job: Job) -> str:
    """The chosen settings in words."""
    if plan is None:
        smaller = "fewer frames, a smaller size" + (" or --lora-rank" * (job.lora_rank is None))
        return f"does not fit; {smaller}"
    setting = plan.setting
    parts = ["trainer=fsdp" if setting.sharded else "trainer=ddp"]
    if job.stage == "psft":
        parts.append(f"{setting.clips} clips at a time")
        if setting.accumulate > 1:
            parts.append(f"{setting.accumulate} micro-batches")
        return ", ".join(parts)
    recomputed = ["steps"] * setting.recompute_steps + ["blocks"] * setting.recompute_blocks
    parts.append(f"{' and '.join(recomputed) or 'nothing'} recomputed")
    if setting.chunk is not None:
        parts.append(REWARDS[job.reward].override.format(setting.chunk))
    return ", ".join(parts)


def details(plan: Plan, job: Job) -> list[str]:
    """The parts of one GPU's memory, and the command."""
    lines = [f"  {name:42}{size / GB:8.2f} GB" for name, size in plan.resident.items()]
    lines += [f"  {name:42}{size / GB:8.2f} GB, or" for name, size in plan.phases.items()]
    lines[-1] = lines[-1].removesuffix(", or") + ", the largest"
    lines += [f"  {'sum':42}{plan.total / GB:8.2f} GB", ""]
    start = f"torchrun --nproc-per-node={plan.gpus}" if plan.gpus > 1 else "python"
    return [*lines, " \\\n    ".join([f"{start} train.py", *overrides(plan, job)])]


def overrides(plan: Plan, job: Job) -> list[str]:
    """A plan as arguments of ``train.py``."""
    setting, stage = plan.setting, job.stage
    name = "psft" if stage == "psft" else f"oro_{REWARDS[job.reward].experiment}"
    chosen: dict[str, Any] = {
        "experiment": name,
        "scale": "paper",
        "trainer": "fsdp" if setting.sharded else "ddp",
        "trainer.devices": plan.gpus,
        f"{stage}.batch_size": PSFT_CLIPS if stage == "psft" else plan.gpus,
        "data.num_frames": job.num_frames,
        "simulation.backend.num_frames": job.num_frames,
        "simulation.backend.resolution": job.size_px,
        "data.expect_size": f"[{job.size_px},{job.size_px}]",
        "model.grad_checkpoint": str(setting.recompute_blocks).lower(),
    }
    if plan.gpus == 1:
        chosen["trainer.strategy"] = "auto"  # one process needs none of DDP's buckets
    if setting.accumulate > 1:
        chosen["trainer.accumulate_grad_batches"] = setting.accumulate
    if stage == "oro":
        chosen["oro.task.num_steps"] = job.num_steps
        chosen["oro.task.guidance"] = f"{job.guidance:g}"
        chosen["oro.task.checkpoint_steps"] = str(setting.recompute_steps).lower()
    if job.lora_rank is not None:
        chosen[f"{stage}.lora"] = f"{{rank:{job.lora_rank}}}"
        chosen["model.dtype"] = job.dtype
    arguments = [f"{key}={value}" for key, value in chosen.items()]
    if setting.chunk is not None:
        arguments.append(REWARDS[job.reward].override.format(setting.chunk))
    return arguments
