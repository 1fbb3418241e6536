"""Workers that crash, hang or report: the task is tried again, then listed."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from pisa.errors import PisaError
from pisa.simulation.pool import supervise


def misbehave(folder: Path, task: int) -> None:
    """0 works; 1 dies at the first attempt; 2 hangs at the first; 3 dies always."""
    attempt = len(list(folder.glob(f"{task}-*")))
    (folder / f"{task}-{attempt}").touch()
    if task == 3 or (task == 1 and attempt == 0):
        os._exit(9)
    if task == 2 and attempt == 0:
        time.sleep(600)


def refuse(task: int) -> None:
    raise PisaError("the disk is full")


def test_crashes_and_hangs_are_survived_and_a_hopeless_task_is_listed(tmp_path: Path) -> None:
    outcomes = list(
        supervise(partial(misbehave, tmp_path), range(4), num_workers=2, timeout_s=3.0, attempts=2)
    )
    assert {o.task: o.error for o in outcomes} == {
        0: None,
        1: None,
        2: None,
        3: "worker died (killed, or out of memory?)",
    }
    assert len(outcomes) == 4
    assert {p.name[0]: len(list(tmp_path.glob(f"{p.name[0]}-*"))) for p in tmp_path.iterdir()} == {
        "0": 1,
        "1": 2,
        "2": 2,
        "3": 2,
    }


def test_a_users_error_ends_everything_with_its_sentence() -> None:
    with pytest.raises(PisaError, match="the disk is full"):
        list(supervise(refuse, range(3), num_workers=1, timeout_s=60.0, attempts=3))
