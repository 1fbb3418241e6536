"""Faults, for real: `python -m tests.faults FAULT [--times N] [--folder DIR]`, from the repository.

Prints one table row for each fault (docs/reference/reliability.md sums them up); the exit code is 1
if anything was lost. The commands run in children of this process, which has the libraries imported
already: an import of ten seconds before every fault would show little. `all` runs every fault.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also makes sums repeat bit for bit

from tests.faults import kills, mishaps

FAULTS = {
    "kill-train": kills.kill_train,
    "kill-eval": kills.kill_eval,
    "kill-simulate": kills.kill_simulate,
    "sigterm": kills.sigterm,
    "disk-full": mishaps.disk_full,
    "read-only": mishaps.read_only,
    "worker-killed": mishaps.worker_killed,
    "nan-reward": mishaps.nan_reward,
    "truncated-clip": mishaps.truncated_clip,
    "clock-jump": mishaps.clock_jump,
    "two-runs": mishaps.two_runs,
}
REPEATED = ("kill-train", "kill-eval", "kill-simulate", "sigterm")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("fault", choices=[*FAULTS, "all"])
    parser.add_argument("--times", type=int, default=20, help="blows, where moments are random")
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    parser.add_argument("--folder", type=Path, default=None, help="kept; default: a temporary one")
    given = parser.parse_args()
    import pisa.launch  # noqa: F401  (what the children share)

    names = list(FAULTS) if given.fault == "all" else [given.fault]
    place = given.folder or Path(tempfile.mkdtemp(prefix="pisa-faults-"))
    rng = random.Random(given.seed)
    lost = 0
    for name in names:
        command = f"python -m tests.faults {name}"
        command += f" --times {given.times}" if name in REPEATED else ""
        started = time.monotonic()
        shutil.rmtree(place / name, ignore_errors=True)
        line = FAULTS[name]((place / name).absolute(), given.times, rng)
        line.save(place, command, time.monotonic() - started)
        print(line.as_markdown(name), flush=True)
        lost += len(line.lost)
    if given.folder is None:
        shutil.rmtree(place, ignore_errors=True)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
