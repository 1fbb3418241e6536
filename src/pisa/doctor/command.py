"""Libraries, data and experiments: what is installed and can run here.

The exit code is 1 if a library is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pisa
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
from pisa.doctor.psft_memory import plan_step
from pisa.doctor.weights import Weights
from pisa.errors import PisaError

MARKS = {True: "ok", False: "!!", None: "  "}
PAPER_CLIPS = 128  # of one optimiser step of PSFT (configs/scale/paper.yaml)
PAPER_GPUS = 2
_OF_MODELS = ("tiny_base", "STDiT3", "VAE", "T5 encoder", "T5 captions")
_RED, _END = "\033[31m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configs", type=Path, default=find_configs(), help="default: found")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--output-dir", type=Path, default=Path("runs"))
    parser.add_argument("--no-plan", action="store_true", help="skip the memory plan (10 s)")


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
    return here if (here / "train.yaml").is_file() else Path(pisa.__file__).parents[2] / "configs"


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


def memory_plan(cards: Sequence[float]) -> list[Finding]:
    """Upper bounds of one GPU's memory; without GPUs here, for the paper's two of 80 GiB."""
    gpus = len(cards) or PAPER_GPUS
    clips = max(1, PAPER_CLIPS // gpus)
    room, where = (min(cards), "here") if cards else (80.0, "80 GiB GPU")
    return [
        Finding(
            trainer,
            f"{need:.1f} GiB on each of {gpus} GPUs, {clips} clips at a time; {where}: "
            + ("fits" if need <= room else "too much; raise trainer.accumulate_grad_batches"),
            need <= room if cards else None,
        )
        for trainer, need in plan_step(256, 32, clips).needs_gib(gpus).items()
    ]


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
