"""``eval.py`` as torchrun starts it: two processes share five clips and write what one writes."""

from __future__ import annotations

import json

import pytest

from tests.launch.test_release_folders import write_release_set
from tests.processes import end, rank_environments, start_script

NAMES = tuple(f"{i:04d}" for i in range(5))


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> dict[int, dict]:
    """metrics.json by number of processes."""
    root = tmp_path_factory.mktemp("scored")
    clips = write_release_set(root / "clips", NAMES)
    found = {}
    for count in (1, 2):
        arguments = (
            *(f"benchmark={clips}", "split=sim_seen", f"output_dir={root / str(count)}"),
            *("evaluation.num_steps=1", "evaluation.device=cpu", f"data_dir={root}"),
        )
        outputs = [root / f"{count}_{rank}" for rank in range(count)]
        ranks = []
        for output, environment in zip(outputs, rank_environments(count), strict=True):
            output.mkdir()
            ranks.append(
                start_script("eval.py", *arguments, cwd=root, output=output, **environment)
            )
        end(ranks, 280)
        said = "".join((output / "stderr").read_text()[-3000:] for output in outputs)
        assert [process.exitcode for process in ranks] == [0] * count, said
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
