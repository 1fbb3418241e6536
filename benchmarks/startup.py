"""CPU seconds that commands and imports take before any work, each in processes of its own.

  python benchmarks/startup.py [--repeats 5]
  python -X importtime -c 'import pisa.metrics' 2>&1 | sort -t'|' -k2 -n | tail     # where they go

A mistyped experiment and --help should take at most 0.3 of `import lightning.pytorch`, and
`import pisa.metrics` at most 1.2 of `import torch`. Rows take turns, so that a change of the
machine's load falls on all of them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = {
    "import torch": ["-c", "import torch"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    "import pisa.metrics": ["-c", "import pisa.metrics"],
    "train.py experiment=oro_flwo (mistyped)": ["train.py", "experiment=oro_flwo"],
    "train.py experiment=psft psft.max_stepz=3": [
        "train.py",
        "experiment=psft",
        "psft.max_stepz=3",
    ],
    "train.py --help": ["train.py", "--help"],
    "eval.py --help": ["eval.py", "--help"],
    "simulate.py --help": ["simulate.py", "--help"],
    "annotate.py --help": ["annotate.py", "--help"],
    "train.py experiment=psft --cfg job": ["train.py", "experiment=psft", "--cfg", "job"],
    "pisa --help": ["-m", "pisa", "--help"],
    "pisa leaderboard --help": ["-m", "pisa", "leaderboard", "--help"],
}
LIMITS = {  # of the second row's median
    "import pisa.metrics": (1.2, "import torch"),
    "train.py experiment=oro_flwo (mistyped)": (0.3, "import lightning.pytorch"),
    "train.py --help": (0.3, "import lightning.pytorch"),
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one process and its children."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(repeats):
        for name, arguments in ROWS.items():
            times[name].append(cpu_seconds(arguments))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"| command | CPU seconds (median of {repeats}) | from | to | ratio | limit |")
    print("|---|---|---|---|---|---|")
    for name, values in times.items():
        limit, base = LIMITS.get(name, (None, None))
        ratio = f"{medians[name] / medians[base]:.2f} of {base}" if base else ""
        cells = f"{medians[name]:.2f} | {min(values):.2f} | {max(values):.2f}"
        print(f"| {name} | {cells} | {ratio} | {limit or ''} |")


if __name__ == "__main__":
    main()
