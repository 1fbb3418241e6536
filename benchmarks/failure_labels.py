"""Measure the failure labels and the interval of fitted g on clips nothing was tuned on.

    OMP_NUM_THREADS=1 python benchmarks/failure_labels.py [--set report|tune] [--clips 60]

Simulates the clips (64x64, the tiny prior) from the seeds below, attacks them, and prints a table
(docs/reference/metrics.md sums it up). Thresholds of ``pisa.metrics.failures`` may be chosen on
the set ``tune`` only.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import torch
from rich.progress import track

from benchmarks.label_accuracy import MUST, Case, attacked, gravity_coverage, markdown
from pisa.launch.targets import instantiate
from pisa.types import Clip

CONFIGS = Path(__file__).parents[1] / "configs"
SETS = {  # (objects, materials and backgrounds of; first seed); val_seen has seeds of `tune`
    "tune": (("train", 6_000_000), ("test", 6_500_000)),
    "report": (("train", 7_000_000), ("test", 8_000_000)),
}


def simulate(name: str, clips: int) -> Iterator[Clip]:
    """``clips`` clips with the objects of either split."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("simulate")
    simulator = instantiate(cfg.simulation.backend)(prior=instantiate(cfg.prior))
    seeds = [(split, first + i) for split, first in SETS[name] for i in range(clips)]
    for split, seed in track(seeds, "simulating", transient=True):
        clip, _ = simulator.make_clip(seed, split, str(seed))
        yield replace(clip, video=clip.video[:, :1], depth_m=None)


def print_false(cases: list[Case]) -> None:
    """Which attacks lead to which wrong or absent labels."""
    counts: Counter[str] = Counter()
    for case in cases:
        name = f"{case.attack} {case.strength:g}"
        counts.update(f"{name}: {x} is wrong" for x in case.labels if case.truth(x) is False)
        wanted = MUST.get((case.attack, case.strength))
        if wanted and wanted not in case.labels:
            counts[f"{name}: {wanted} is absent"] += 1
    for text, count in sorted(counts.items()):
        print(f"{count:4d}  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, default="report")
    parser.add_argument("--clips", type=int, default=60, help="of either split")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = list(simulate(options.set, options.clips))
    cases = [case for clip in track(clips, "attacking", transient=True) for case in attacked(clip)]
    print(f"set {options.set}: {len(clips)} clips, {len(cases)} cases")
    print(markdown(cases))
    print_false(cases)
    rate, fitted = gravity_coverage(clips)
    off = np.abs(np.array(fitted) - 9.81)
    print(f"fitted g: median {np.median(fitted):.2f} m/s^2, {np.mean(off < 1):.0%} within 1;")
    print(f"its 95 % interval holds 9.81 on {rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]")


if __name__ == "__main__":
    main()
