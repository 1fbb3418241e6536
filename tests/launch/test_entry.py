"""A user's mistake is one line with the valid names, and changes nothing."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from hydra.errors import InstantiationException
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from pisa.errors import PisaError
from pisa.launch import entry
from pisa.launch.entry import _attempt, mistake_in
from tests.processes import run_script

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("train.py", ["experiment=oro_magic"], "oro_depth, oro_equal"),
        ("simulate.py", ["datasets=[nothing]"], "valid: psft"),
        ("eval.py", ["ckpt=absent.safetensors", "output_dir=out"], "absent.safetensors"),
    ],
)
def test_a_mistake_is_one_line(script, arguments, expected, tmp_path):
    done = run_script(script, *arguments, cwd=tmp_path)
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
        (["experiment=psft", "scenario=[o]"], "no scenario named 'o'; valid: ambiguous, "),
        (["hydra.searchpath=[file:///nowhere]"], "hydra.searchpath: there is no folder /nowhere"),
        (["oro_flow"], "'oro_flow' is not an override; these have the form name=value"),
        (
            ["experiment=psft", "logger=null"],
            "logger takes a name; valid: csv, wandb; none: logger=[]",
        ),
        (["experiment=psft", "model=3"], "model=3: model takes a name; valid: "),
        (
            ["experiment=psft", "task@oro.task=null"],
            "task@oro.task=null: task takes a name; valid: ",
        ),
    ],
)
def test_other_mistakes_are_reported_alike(arguments, expected):
    message = mistake_in(arguments, "train")
    assert message is not None and expected in message and "\n" not in message


def test_own_configurations_are_among_the_valid_names(tmp_path):
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "calm.yaml").touch()
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    message = mistake_in([searched, "experiment=oro_flow", "reward=clam"], "train")
    assert message is not None and message.startswith("no reward named 'clam'; valid: calm, depth")


def test_a_group_that_the_command_does_not_have_is_one_line():
    message = mistake_in(["model=tiny", "reward=flow"], "eval")
    assert message.startswith("no setting 'reward' in the configuration; valid: ")
    assert "benchmark" in message and "\n" not in message


PATHS = [
    "/d/epoch=3.ckpt", "/d/My videos (1)", "/d/clip[1]", "/d/it's", '/d/a "b"', "/d/a#b", "/d/a;b",
    "/d/a{b}", "/d/a&b", "/d/x!y", "/d/a|b", "/d/видео", "/d/видео 1=2", "/d/a*b", "/d/`a`",
    "/d/a\\b", "/d/50%", "/d/a@b", "/d/a<b>", "/d/a?b", "/d/(a)", "/d/a^b", "C:\\videos",
    "[1]/a", "{a}/b",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_arrives_as_it_is_or_the_message_has_the_quoting_that_works(path):
    """The hint is pasted into a shell, whose words then go through Hydra's grammar."""
    message = mistake_in([f"ckpt={path}"], "eval")
    argument = f"ckpt={path}"
    if message is not None:
        assert "\n" not in message and "; write " in message, message
        (argument,) = shlex.split(message.rpartition("; write ")[2])
        assert mistake_in([argument], "eval") is None
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        assert hydra.compose("eval", [argument]).ckpt == path


def test_a_comma_is_a_sweep_or_is_quoted(monkeypatch):
    message = mistake_in(["ckpt=/d/a,b"], "eval")
    assert "add -m" in message and message.endswith("""write "ckpt='/d/a,b'\"""")
    assert mistake_in(["-m", "experiment=psft", "seed=0,1"], "train") is None
    assert mistake_in(["hydra.mode=MULTIRUN", "experiment=psft", "seed=0,1"], "train") is None
    monkeypatch.setenv("HOME", "/home/me")
    assert mistake_in(["ckpt=~/x"], "eval").endswith("""write "ckpt='/home/me/x'\"""")


def test_without_an_experiment_the_names_are_listed():
    assert "valid: dpo, drop_time" in mistake_in([], "train")
    assert mistake_in(["--help"], "train") is None
    assert mistake_in([], "eval") is None


@pytest.mark.parametrize(
    ("script", "arguments", "code"),
    [
        ("train.py", ["experiment=oro_magic"], 2),
        ("train.py", ["--help"], 0),
        ("eval.py", ["--cfg", "job"], 0),
        ("simulate.py", ["--help"], 0),
        ("annotate.py", ["--help"], 0),
    ],
)
def test_mistakes_and_help_are_answered_before_torch_is_imported(script, arguments, code, tmp_path):
    """Lightning alone takes 15 CPU seconds to import (benchmarks/startup.py)."""
    program = (
        "import atexit, runpy, sys\n"
        f"sys.argv = {[script, *arguments]!r}\n"
        "slow = ('torch', 'lightning', 'matplotlib')\n"
        "atexit.register(lambda: print('slow:', [m for m in slow if m in sys.modules]))\n"
        f"runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "slow: []"
    if arguments == ["--help"]:
        assert "The commonest settings:" in done.stdout.splitlines()[5]


@pytest.mark.parametrize(
    ("cause", "kept"),
    [(ValueError("Invalid learning rate: -1"), False), (KeyError("bug"), True)],
)
def test_a_value_that_a_constructor_refuses_is_one_line_with_its_setting(cause, kept):
    def fails(_):
        try:
            raise cause
        except type(cause) as error:
            text = f"Error in call to target 'x.Y':\n{error!r}\nfull_key: psft.task"
            raise InstantiationException(text) from error

    if kept:
        with pytest.raises(InstantiationException):
            _attempt(fails, None)
        return
    message, code = _attempt(fails, None)
    assert code == 2 and message.startswith("psft.task: Invalid learning rate: -1")


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
    ("how", "expected"),
    [
        ("broken", "clips/0001/mask.npz: is damaged"),
        (
            "killed",
            "a process that loads clips was killed (often for memory: lower data.num_workers); "
            "the same command resumes",
        ),
    ],
)
def test_an_error_in_a_loaders_worker_is_one_line(how, expected, monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)  # of 5 s
    message, code = _attempt(lambda _: list(DataLoader(_Broken(how), num_workers=1)), None)
    assert (message, code) == (expected, 2)


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

    monkeypatch.setattr(entry, "mistake_in", struck)
    monkeypatch.setattr(entry.os, "_exit", end)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Ended, match="130"):
            entry.entry_point(lambda cfg: None, "train", "")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_process_group_ends_with_the_work(tmp_path, monkeypatch):
    """Left to Python's end, gloo's threads abort the process (exit code -6) now and then."""
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=psft", "--cfg", "job"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    entry.entry_point(lambda cfg: None, "train", "")
    assert not distributed.is_initialized()
