"""The command `pisa`: every subcommand has help, mistakes are one line, and clean stays at home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from pisa.__main__ import COMMANDS, main
from pisa.io.files import hold

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and f"usage: pisa {name}" in said
    assert len(said.split("\n\n")[1]) > 20  # the module's docstring


def test_the_overview_lists_every_command(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS) and "train.py" in said


def test_an_unknown_command_is_one_line_with_the_valid_ones(capsys):
    assert main(["docter"]) == 2
    assert capsys.readouterr().err.startswith("error: no command 'docter'; valid: arena, clean")


@pytest.mark.parametrize(("name", "missing"), [("memory", "psft|oro"), ("eval", "videos, folder")])
def test_a_missing_argument_is_named_with_its_choices(name, missing, capsys):
    assert main([name]) == 2
    assert f"error: the following arguments are required: {missing};" in capsys.readouterr().err


def test_the_console_script_is_this_function():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"pisa": "pisa.__main__:main"}


def test_the_overview_imports_no_command():
    program = "import sys, pisa.__main__ as m; m.main([]); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A data set, a cache, a run, and folders and files that belong to somebody else."""
    monkeypatch.chdir(tmp_path)
    for name, file in (
        ("data/psft-1a2b3c4d", "manifest.json"),
        ("data/mask_cache", "x.npz"),
        ("data/thesis", "chapter.txt"),
        ("runs/oro_flow-11112222", "config.yaml"),
        ("runs/notes", "note.txt"),
        ("elsewhere", "config.yaml"),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_text("x" * 1000)
    (tmp_path / "runs/link").symlink_to(tmp_path / "elsewhere")
    past = time.time() - 40 * 86400
    for path in (tmp_path / "runs/oro_flow-11112222", *(tmp_path / "runs").glob("oro*/*")):
        os.utime(path, (past, past))
    return tmp_path


def left(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.glob("*/*")}


def test_clean_lists_and_removes_nothing_unasked(home, capsys):
    before = left(home)
    assert main(["clean"]) == 0
    said = capsys.readouterr().out
    assert "data/psft-1a2b3c4d" in said and "mask_cache" in said and "40.0 days" in said
    assert "thesis" not in said and "notes" not in said and "link" not in said
    assert "3 folders" in said and left(home) == before


def test_clean_removes_what_is_named_and_nothing_else(home):
    before = left(home)
    assert main(["clean", "psft-*", "runs/oro_flow-11112222", "--yes"]) == 0
    assert before - left(home) == {"data/psft-1a2b3c4d", "runs/oro_flow-11112222"}


def test_clean_by_age(home):
    before = left(home)
    assert main(["clean", "--older-than", "30", "--yes"]) == 0
    assert before - left(home) == {"runs/oro_flow-11112222"}


@pytest.mark.parametrize("name", ["elsewhere", "../x", "thesis", "link", "/etc", ".", "runs/link"])
def test_clean_refuses_what_is_not_ours(name, home, capsys):
    before = left(home)
    assert main(["clean", name, "--yes"]) == 2
    assert "no data set or run" in capsys.readouterr().err and left(home) == before


def test_clean_asks_and_keeps_without_a_yes(home, monkeypatch, capsys):
    before = left(home)
    assert main(["clean", "psft-*"]) == 2  # no terminal to ask in
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(["clean", "psft-*"]) == 0 and left(home) == before
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["clean", "psft-*"]) == 0 and "data/psft-1a2b3c4d" not in left(home)


def test_clean_keeps_what_another_process_holds(home, capsys):
    folder = home / "runs/oro_flow-11112222"
    program = (
        f"import fcntl, os, time; h = os.open({str(folder / '.lock')!r}, os.O_RDWR | os.O_CREAT)"
    )
    program += "; fcntl.flock(h, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "held"
        assert main(["clean", "oro*", "--yes"]) == 2
        assert "in use" in capsys.readouterr().err and folder.is_dir()
    finally:
        other.kill()
        other.wait()
    with hold(folder):
        assert main(["clean", "oro*", "--yes"]) == 0
    assert not folder.exists()
