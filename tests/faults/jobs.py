"""The smallest runs of train.py, eval.py and simulate.py, and how their results are compared."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = 12
SIZES = (
    "simulation.datasets.psft.num_clips=5",
    "simulation.datasets.sim_seen.num_clips=2",
    "simulation.datasets.sim_unseen.num_clips=1",
    "simulation.num_workers=1",
)
TRAIN = (
    "experiment=psft", *SIZES, f"psft.max_steps={STEPS}", "psft.batch_size=2",
    "checkpoint_every=2", "validate_every=4", "trainer.log_every_n_steps=1", "evaluate=false",
    "logger=csv", "callbacks.throughput=null", "callbacks.samples=null",
    "+trainer.enable_progress_bar=false", "callbacks.progress=null",
    "model.denoiser.depth=2", "model.weights=null",
)  # fmt: skip
EVAL = (*SIZES, "evaluation.batch_size=1")
SIMULATE = ("datasets=[psft]", "simulation.datasets.psft.num_clips=40", "simulation.num_workers=2")
MARK = "PISA_FAULT_JOB"
GRACE_S = 30.0  # what SLURM gives between SIGTERM and SIGKILL


@dataclass
class Job:
    """One command in ``folder``; the same folder again goes on with what is there."""

    verb: str
    folder: Path
    options: tuple[str, ...]
    prepare: Callable[[], None] | None = None  # runs in the process before the command
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "log.txt"

    @property
    def command(self) -> str:
        return f"python {self.verb}.py {' '.join(self.options)}"

    def start(self) -> int:
        """Start the command in a child of this process, which has the libraries imported.

        Returns its process number; the child leads a session of its own.
        """
        pid = os.fork()
        if pid:
            return pid
        os.setsid()
        os.environ[MARK] = str(os.getpid())  # simulation workers lead sessions of their own
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(self.folder)
        code = 1
        try:
            code = _run(self.verb, self.options, self.prepare)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self) -> int:
        """The exit code of the whole command."""
        return wait(self.start())

    def last_line(self) -> str:
        """What the log ends with."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _run(verb: str, options: Sequence[str], prepare: Callable[[], None] | None) -> int:
    from pisa.launch.entry import entry_point

    entry = import_module(verb)  # train.py, eval.py or simulate.py
    sys.argv = [f"{verb}.py", *options]
    try:
        if prepare is not None:
            prepare()
        entry_point(entry.main, verb, "")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def wait(pid: int, timeout_s: float = 900.0) -> int:
    """Exit code of a child (minus the signal's number where one ended it)."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"process {pid} still runs after {timeout_s:.0f} s")


def is_running(pid: int) -> bool:
    """Whether a child still runs; it is not waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def family_of(leader: int) -> list[int]:
    """Live processes that a job has started: of its session, or with its mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            marked = f"{MARK}={leader}".encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z" and (marked or int(fields[3]) == leader):
            found.append(int(entry.name))
    return found


def train_job(folder: Path, *more: str, data: Path | None = None) -> Job:
    places = (f"data_dir={data or folder / 'data'}", f"output_dir={folder / 'runs'}")
    return Job("train", folder, (*TRAIN, *places, *more))


def eval_job(folder: Path, weights: Path, data: Path) -> Job:
    places = (f"ckpt={weights}", f"data_dir={data}", f"output_dir={folder / 'out'}")
    model = ("model.denoiser.depth=2", "model.weights=null")
    return Job("eval", folder, (*EVAL, *places, *model))


def simulate_job(folder: Path, *more: str) -> Job:
    return Job("simulate", folder, (*SIMULATE, f"data_dir={folder / 'data'}", *more))


def trained(folder: Path) -> str:
    """Hash of a training run's weights and logged numbers."""
    (run,) = (folder / "runs").glob("*-*")
    digest = hashlib.sha256((run / "weights.safetensors").read_bytes())
    digest.update((run / "csv" / "metrics.csv").read_bytes())
    return digest.hexdigest()


def scored(folder: Path) -> str:
    """Hash of the scores of eval.py, clip by clip."""
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    kept = {key: metrics[key] for key in ("per_clip", "summary", "failures")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def simulated(folder: Path) -> str:
    """Hash of all clips and of the manifest."""
    from pisa.data.manifest import data_sha256

    (data_set,) = (folder / "data").glob("psft-*")
    strays = [p.name for p in (data_set / "clips").iterdir() if p.name.startswith(".")]
    assert not strays, f"left behind: {strays}"
    digest = hashlib.sha256(data_sha256(data_set).encode())
    digest.update((data_set / "manifest.json").read_bytes())
    return digest.hexdigest()
