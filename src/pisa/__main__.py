"""The command ``pisa``: everything beside train.py, eval.py, simulate.py and annotate.py.

A subcommand is a module with ``add_arguments(parser)`` and ``main(given)``, whose docstring is the
help text. It is imported when it is called, so that ``pisa --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from pisa import __version__
from pisa.errors import PisaError

EXIT_INTERRUPTED = 130

# Title of a group: {command: (module, line of --help)}
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "This machine": {
        "doctor": ("pisa.doctor.command", "what is installed and present, what can run here"),
        "memory": ("pisa.doctor.memory", "GPU memory that PSFT or ORO at full size needs"),
        "clean": ("pisa.doctor.clean", "list and remove data sets and runs"),
    },
    "Scores": {
        "eval": ("pisa.launch.library", "PisaBench scores of a folder of videos"),
        "leaderboard": ("pisa.reports.leaderboard", "several runs on one page"),
        "arena": ("pisa.reports.arena", "post-training methods at equal compute on one page"),
        "seeds": ("pisa.reports.seeds", "runs of one experiment with several seeds"),
        "sweep": ("pisa.reports.sweep", "table of a sweep or a search"),
        "dashboard": ("pisa.reports.dashboard", "the Weights & Biases workspace as code"),
    },
    "Tables and figures of the paper": {
        "table1": ("pisa.reports.figures.table1", "PisaBench results beside the paper's"),
        "table2": ("pisa.reports.figures.table2", "in and out of distribution"),
        "figure1": ("pisa.reports.figures.strobe", "stroboscopic pictures of clips"),
        "figure3": ("pisa.reports.figures.real_clips", "statistics of real clips"),
        "figure4": ("pisa.reports.figures.qualitative", "clips of every model side by side"),
        "figure5": ("pisa.reports.figures.ablation", "ablations: steps, initialisation, clips"),
        "figure6": ("pisa.reports.figures.ambiguous", "scenes that share a first frame"),
        "figure7": ("pisa.reports.figures.lifting", "trajectories lifted to 3D"),
        "figure8": ("pisa.reports.figures.drop_times", "drop times against p(t | y)"),
        "figure10": ("pisa.reports.figures.annotations", "real clips and their masks"),
        "figure12a": ("pisa.reports.figures.words", "words of the captions of real clips"),
        "hero": ("pisa.reports.figures.hero", "an animated picture of a run for a README"),
    },
    "Data": {
        "fetch": ("pisa.data.fetch", "the authors' clips and checkpoints, scanned objects, HDRIs"),
        "latents": ("pisa.launch.latents", "encode a training set once, before training"),
        "track": ("pisa.launch.track", "follow objects through a video from their masks"),
        "masks": ("pisa.data.mask_convert", "masks from and to COCO, DAVIS, YouTube-VOS, CVAT"),
        "physics-iq": ("pisa.data.physics_iq", "masks of Physics-IQ as pairs that can be scored"),
    },
    "Models": {
        "search": ("pisa.launch.search", "search settings with optuna"),
        "hub": ("pisa.launch.hub", "a run as a model for the Hugging Face Hub"),
        "pack": ("pisa.models.pack", "several weights files as one"),
    },
}
COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 2 for a mistake of the user's, 3 incomplete."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"pisa {__version__}")
        return 0
    try:
        if name not in COMMANDS:
            raise PisaError(f"no command {name!r}; valid: {', '.join(sorted(COMMANDS))}")
        return _run(name, given[1:])
    except PisaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno is None:
            raise
        print(f"error: {error.filename}: {os.strerror(error.errno)}", file=sys.stderr)
        return PisaError.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command resumes from here", file=sys.stderr)
        return EXIT_INTERRUPTED


def overview() -> str:
    """The text of ``pisa --help``."""
    lines = ["usage: pisa COMMAND [-h] ...", ""]
    lines += ["Train, score, simulate and annotate: python train.py --help, and so eval.py,"]
    lines += ["simulate.py and annotate.py. The other commands, each with its own --help:"]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:12} {line}" for name, (_, line) in group.items())]
    return "\n".join(lines)


def _run(name: str, arguments: Sequence[str]) -> int:
    module = import_module(COMMANDS[name][0])
    parser = _Parser(
        prog=f"pisa {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    code: int | None = module.main(parser.parse_intermixed_args(arguments))
    return code or 0


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise PisaError(f"{message}; see {self.prog} --help")


if __name__ == "__main__":
    sys.exit(main())
