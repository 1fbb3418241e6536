"""``eval.py`` under torchrun: two processes share five clips and write what one writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.test_release_folders import write_release_set

ROOT = Path(__file__).parents[2]
NAMES = tuple(f"{i:04d}" for i in range(5))


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> dict[int, dict]:
    """metrics.json by number of processes."""
    root = tmp_path_factory.mktemp("scored")
    clips = write_release_set(root / "clips", NAMES)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    found = {}
    for count in (1, 2):
        done = subprocess.run(
            [
                *(sys.executable, *(torchrun if count == 2 else ()), str(ROOT / "eval.py")),
                *(f"benchmark={clips}", "split=sim_seen", f"output_dir={root / str(count)}"),
                *("evaluation.num_steps=1", "evaluation.device=cpu", f"data_dir={root}"),
            ],
            cwd=root,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = json.loads((root / str(count) / "metrics.json").read_text())
    return found


def test_five_clips_on_two_processes_give_five_rows_in_order(scored):
    for model in ("truth", "frozen", "base"):
        rows = [row["clip"] for row in scored[2]["per_clip"] if row["model"] == model]
        assert rows == list(NAMES)


def test_the_means_and_their_intervals_are_those_of_one_process(scored):
    assert scored[2]["summary"] == scored[1]["summary"]
    assert scored[2]["summary"]["base"]["sim_seen"]["iou"]["n"] == 5
    assert scored[2]["per_clip"] == scored[1]["per_clip"]
    assert scored[2]["failures"] == scored[1]["failures"]
