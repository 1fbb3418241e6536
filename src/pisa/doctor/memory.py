"""GPU memory that training Open-Sora v1.2 needs, computed and not measured.

pisa memory psft --clips 64 --gpus 2                 what a step of PSFT needs
pisa memory oro --reward flow --memory-gb 40         the settings with which ORO fits
"""

from __future__ import annotations

import argparse

from pisa.doctor import oro_planner, psft_memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", choices=["psft", "oro"])
    parser.add_argument("--size", type=int, default=256, help="side of a clip in pixels")
    parser.add_argument("--frames", type=int, default=32)
    psft = parser.add_argument_group("psft")
    psft.add_argument("--clips", type=int, default=64, help="per GPU and micro-batch")
    psft.add_argument("--gpus", type=int, default=2)
    oro = parser.add_argument_group("oro")
    oro.add_argument("--reward", choices=list(oro_planner.REWARDS), default="flow")
    oro.add_argument("--memory-gb", type=float, default=40.0, help="10^9 bytes")
    oro.add_argument("--lora-rank", type=int, default=None, help="default: train everything")
    oro.add_argument("--steps", type=int, default=10)
    oro.add_argument("--guidance", type=float, default=4.0)


def main(given: argparse.Namespace) -> None:
    """Print the plan of one stage."""
    if given.stage == "psft":
        print(psft_memory.report(given.size, given.frames, given.clips, given.gpus))
        return
    job = oro_planner.Job(given.frames, given.size, given.steps, given.guidance, given.lora_rank)
    print(oro_planner.report(given.reward, given.memory_gb, job))
