"""A user's mistake is one line with the valid names, and changes nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from pisa.launch import entry
from pisa.launch.entry import _attempt, _problem_of_overrides
from pisa.types import PisaError

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("train.py", ["experiment=oro_magic"], "oro_depth, oro_flow"),
        ("simulate.py", ["datasets=[nothing]"], "valid: psft"),
        ("eval.py", ["ckpt=absent.safetensors", "output_dir=out"], "absent.safetensors"),
    ],
)
def test_a_mistake_is_one_line(script, arguments, expected, tmp_path):
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experiment=psft", "psft.max_stepz=3"], "'max_stepz' in psft; valid: batch_size"),
        (["oro_flow"], "what is 'oro_flow'? Overrides have the form name=value"),
    ],
)
def test_other_mistakes_are_told_alike(arguments, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    told = _problem_of_overrides(ROOT / "configs", "train")
    assert told is not None and expected in told and "\n" not in told


def test_a_group_that_the_command_does_not_have_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", "model=tiny", "reward=flow_raft"])
    told = _problem_of_overrides(ROOT / "configs", "eval")
    assert told.startswith("no setting 'reward' in the configuration; valid: ")
    assert "benchmark" in told and "\n" not in told


class _Broken(Dataset):
    """Stands for a data set whose clip cannot be read, or whose reader is killed."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise PisaError("clips/0001/mask.npz: is damaged")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("broken", "clips/0001/mask.npz: is damaged"),
        ("killed", "a process that loads clips was killed; the same command goes on"),
    ],
)
def test_what_happens_in_a_loaders_worker_is_one_line(how, told):
    message, code = _attempt(lambda _: list(DataLoader(_Broken(how), num_workers=1)), None)
    assert (message, code) == (told, 2)


def test_other_runtime_errors_keep_their_traceback():
    def fails(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        _attempt(fails, None)


def test_a_signal_while_the_command_line_is_read_stops_with_its_code(monkeypatch):
    """SIGTERM is a KeyboardInterrupt from the first line on; the exit code is 130."""

    def struck(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    class Ended(Exception):
        pass

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(entry, "_problem_of_overrides", struck)
    monkeypatch.setattr(entry.os, "_exit", end)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Ended, match="130"):
            entry.entry_point(lambda cfg: None, ROOT / "configs", "train")
    finally:
        signal.signal(signal.SIGTERM, before)
