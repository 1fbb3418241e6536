"""A user's mistake is one line with the valid names, and changes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from pisa.launch.entry import _problem_of_overrides

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
