"""Libraries, data and experiments: what is installed and can run here.

The exit code is 1 if a library is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pisa.data.manifest import is_complete, list_clips
from pisa.data.released import RELEASED, REPOSITORY
from pisa.doctor.experiments import (
    SCALES,
    Experiment,
    all_experiments,
    model_weights,
)
from pisa.doctor.machine import (
    Finding,
    disks,
    gpu_memory_gib,
    hardware,
    hub_reachable,
    versions,
)
from pisa.doctor.memory import described
from pisa.doctor.planner import GB, PSFT_CLIPS, Job, Planner
from pisa.doctor.weights import Weights
from pisa.errors import PisaError
from pisa.launch.entry import CONFIGS

MARKS = {True: "ok", False: "!!", None: "  "}
PAPER_GPUS, PAPER_GPU_GB = 2, 80.0
_OF_MODELS = ("tiny_base", "STDiT3", "VAE", "T5 encoder", "T5 captions")
_RED, _END = "\033[31m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configs", type=Path, default=find_configs(), help="default: found")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--output-dir", type=Path, default=Path("runs"))
    parser.add_argument("--no-plan", action="store_true", help="skip the memory plan (a minute)")


def main(given: argparse.Namespace) -> int:
    """Print the report; 1 where a library is missing or does not fit, else 0."""
    if not (given.configs / "train.yaml").is_file():
        raise PisaError(
            f"no configs at {given.configs}: run it in the repository, or add --configs"
        )
    libraries = list(versions())
    show("Libraries", libraries)
    show("Machine", [*hardware(), *disks([given.data_dir, given.output_dir])])
    online, cards = hub_reachable(), gpu_memory_gib()
    show("Weights and data", [], note=_network(online))
    experiments = list(all_experiments(given.configs, [f"data_dir={given.data_dir}"]))
    models = model_weights(given.configs, [f"data_dir={given.data_dir}"])
    teachers = (w for e in experiments for w in e.weights if w.name not in _OF_MODELS)
    show(None, weight_findings([*models, *teachers]))
    show(None, data_findings(experiments, given.data_dir))
    if not given.no_plan:
        show(
            "Memory of PSFT at scale=paper (computed; docs/guide/scale_out.md)", memory_plan(cards)
        )
    show("Experiments", verdicts(experiments, len(cards), online))
    return int(any(finding.good is False for finding in libraries))


def find_configs() -> Path:
    """The repository's configs: here, else beside the package."""
    here = Path("configs")
    return here if (here / "train.yaml").is_file() else CONFIGS


def weight_findings(weights: Iterable[Weights]) -> list[Finding]:
    """Every file or repository of weights once, with its place."""
    every = {(w.name, w.place): w for w in weights}
    return [
        Finding(
            w.name,
            f"{w.place} ({w.source})" if w.present else f"absent; {w.source} goes to {w.place}",
            w.present or None,
        )
        for w in every.values()
    ]


def data_findings(experiments: Iterable[Experiment], data_dir: Path) -> list[Finding]:
    """Every simulated data set, and the real clips."""
    found = []
    every = {d.folder: d for e in experiments for d in e.data}
    for data in every.values():
        state = "complete" if data.present else "absent; simulated on first use"
        text = f"{data.folder}, {data.num_clips} clips: {state}"
        found.append(Finding(data.name, text, data.present or None))
    real = data_dir / "real"
    if is_complete(real):
        return [*found, Finding("real", f"{real}, {len(list_clips(real))} clips", True)]
    text = f"absent; {RELEASED['real'].path} of {REPOSITORY} goes to {real} (pisa fetch real)"
    return [*found, Finding("real", text)]


def memory_plan(cards_gib: Sequence[float]) -> list[Finding]:
    """The fastest settings that fit the GPUs here; without any, the paper's two of 80 GB."""
    here = len(cards_gib) or PAPER_GPUS
    gpus = max(n for n in range(1, here + 1) if PSFT_CLIPS % n == 0)
    memory_gb = min(cards_gib) * 2**30 / GB if cards_gib else PAPER_GPU_GB
    where = "here" if cards_gib else "not here"
    job = Job()
    plan = Planner(job).choose(memory_gb * GB, gpus)
    needs = "" if plan is None else f", {plan.total / GB:.1f} GB on each"
    text = f"{gpus} GPUs of {memory_gb:.0f} GB ({where}): {described(plan, job)}{needs}"
    return [Finding("psft", text, plan is not None if cards_gib else None)]


def verdicts(experiments: Iterable[Experiment], gpus: int, online: bool) -> list[Finding]:
    """One line for each experiment and scale, those that can run first."""
    lines = []
    for experiment in sorted(experiments, key=lambda e: SCALES.index(e.scale)):
        good, text = experiment.verdict(gpus, online)
        name = f"experiment={experiment.name} scale={experiment.scale}"
        lines.append(Finding(name, text, good))
    return lines


def show(title: str | None, findings: Sequence[Finding], note: str = "") -> None:
    """Print a section; what is bad is red on a terminal."""
    if title is not None:
        print(f"\n{title}{note}")
    width = max((len(f.name) for f in findings), default=0)
    for finding in findings:
        line = f"  {MARKS[finding.good]} {finding.name:{width}}  {finding.text}"
        red = finding.good is False and sys.stdout.isatty()
        print(f"{_RED}{line}{_END}" if red else line)


def _network(online: bool) -> str:
    return f" (the Hugging Face hub can {'' if online else 'not '}be reached)"
