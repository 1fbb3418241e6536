"""Disks, workers, clocks and data that fail, and a second run in the same folder."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.jobs import (
    ROOT,
    Job,
    eval_job,
    family_of,
    is_running,
    scored,
    simulate_job,
    simulated,
    train_job,
    trained,
    wait,
)
from tests.faults.report import Line

USER_ERROR = 2
CAPABILITY_VERSION_3, CAP_DAC_OVERRIDE = 0x20080522, 1  # linux/capability.h
FULL_KIB = (64, 600, 9_000)  # sizes of the disk: other moments of the run
FULL_EVAL_KIB = (4, 16, 40)  # what eval.py writes is small
DAY_S = 86_400.0
COUNT = "train/nonfinite_steps"


def disk_full(folder: Path, times: int, rng: random.Random) -> Line:
    """Runs on disks that are too small; then the disk grows and the command goes on."""
    line = Line("disk full, train.py, simulate.py and eval.py")
    model = folder / trained.__name__  # the undisturbed run of the first round

    def evaluate(place: Path) -> Job:
        (weights,) = (model / "runs").glob("*/weights.safetensors")
        return eval_job(place, weights, model / "data")

    for make, result, sizes in (
        (train_job, trained, FULL_KIB),
        (simulate_job, simulated, FULL_KIB),
        (evaluate, scored, FULL_EVAL_KIB),
    ):
        expected = _undisturbed(make, result, folder / result.__name__)
        for size in sizes:
            place = folder / f"{result.__name__}-{size}"
            with tmpfs(place, f"size={size}k") as grow:
                job = make(place)
                job.log = folder / f"{place.name}.txt"
                code = job.run()
                line.times += 1
                if code == 0:
                    line.happened.append("had room enough")
                    continue
                line.happened.append("one line, exit code 2")
                _expect_one_line(line, job, code, "space")
                grow("size=500m")
                line.expect(job.run() == 0, f"with room it ended with: {job.last_line()}")
                line.expect(result(place) == expected, f"other result after {size} KiB")
    return line


def read_only(folder: Path, times: int, rng: random.Random) -> Line:
    """A disk that is read-only from the start, and folders that lose write permission midway."""
    line = Line("read-only output, train.py")
    expected = _undisturbed(train_job, trained, folder / "undisturbed")
    place = folder / "before"
    with tmpfs(place, "size=500m") as remount:
        job = train_job(place, data=folder / "undisturbed" / "data")
        job.log = folder / "before.txt"
        remount("ro")
        code = job.run()
        line.times += 1
        line.happened.append(f"from the start: one line, exit code {code}")
        _expect_one_line(line, job, code, "Read-only")
        remount("rw")
        line.expect(job.run() == 0, f"writable again it ended with: {job.last_line()}")
        line.expect(trained(place) == expected, "other result")
    job = train_job(folder / "during")
    job.prepare = _without_override
    pid = job.start()
    _until(pid, lambda: bool(list(job.folder.rglob("step_*.ckpt"))))
    places = [p for p in (job.folder / "runs").rglob("*") if p.is_dir()]
    for path in places:
        os.chmod(path, 0o555)
    code = wait(pid)
    line.times += 1
    line.happened.append(f"midway: one line, exit code {code}")
    _expect_one_line(line, job, code, "denied")
    for path in places:
        os.chmod(path, 0o755)
    line.expect(job.run() == 0, f"writable again it ended with: {job.last_line()}")
    line.expect(trained(job.folder) == expected, "other result")
    return line


def _without_override() -> None:
    """Root may write anywhere; without this capability it is bound by permissions as others are."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low and high words
    assert libc.capget(header, sets) == 0
    for word in (0, 1):
        sets[word] &= ~(1 << CAP_DAC_OVERRIDE)
    assert libc.capset(header, sets) == 0


def worker_killed(folder: Path, times: int, rng: random.Random) -> Line:
    """kill -9 of a simulation worker, and of a worker that loads clips for training."""
    line = Line("a worker killed, simulate.py and train.py")
    expected = _undisturbed(_many_clips, simulated, folder / "simulated")
    job = _many_clips(folder / "simulate")
    pid = job.start()
    clips = folder / "simulate" / "data"
    _until(pid, lambda: len(list(clips.glob("psft-*/clips/0*"))) > 5)
    workers = [p for p in family_of(pid) if p != pid and _parent(p) not in (pid, 1)]
    os.kill(rng.choice(workers), signal.SIGKILL)
    line.times += 1
    line.expect(wait(pid) == 0, f"simulate.py ended with: {job.last_line()}")
    line.happened.append("simulate.py: its clip was made by another worker")
    line.expect(simulated(folder / "simulate") == expected, "other clips")

    options = ("data.num_workers=2", "data.cache=false")
    straight = train_job(folder / "straight", *options)
    assert straight.run() == 0, straight.last_line()
    job = train_job(folder / "train", *options)
    pid = job.start()
    _until(pid, lambda: bool(list((folder / "train").rglob("step_*.ckpt"))))
    loaders = [p for p in family_of(pid) if p != pid and _parent(p) == pid]
    os.kill(rng.choice(loaders), signal.SIGKILL)
    code = wait(pid)
    line.times += 1
    _expect_one_line(line, job, code, "killed")
    line.happened.append(f"train.py: one line, exit code {code}; the same command went on")
    line.expect(job.run() == 0, f"train.py ended with: {job.last_line()}")
    line.expect(trained(folder / "train") == trained(folder / "straight"), "other weights")
    return line


def _many_clips(folder: Path) -> Job:
    """Fewer than 100 clips are made without worker processes."""
    return simulate_job(folder, "simulation.datasets.psft.num_clips=120")


def nan_reward(folder: Path, times: int, rng: random.Random) -> Line:
    """ORO with a reward that is NaN in every fourth step; then in more steps than are allowed."""
    from safetensors.torch import load_file

    from pisa.reports.curves import read_csv_logger

    line = Line("NaN planted in a reward, ORO")
    os.environ["PISA_PLUGINS"] = "tests.faults.nan_reward"
    searched = f"hydra.searchpath=[file://{ROOT / 'tests' / 'faults' / 'configs'}]"
    common = (
        "experiment=oro_flow", searched, "reward=sometimes_nan", "psft.max_steps=2",
        "oro.max_steps=8", "oro.batch_size=1", "oro.train=psft",
    )  # fmt: skip
    job = train_job(folder / "few", *common, data=folder / "data")
    line.times += 1
    assert job.run() == 0, job.last_line()
    (run,) = (folder / "few" / "runs").glob("oro_flow-*")
    counts = [value for _, value in read_csv_logger(run / "csv" / "metrics.csv")[COUNT]]
    kept = len(list(run.glob("nonfinite/*")))
    line.expect(counts[-1] == 2, f"{counts[-1]:.0f} steps counted as non-finite")
    line.expect(kept > 0, "no record of the clips was kept")
    tensors = load_file(run / "weights.safetensors")
    line.expect(all(t.isfinite().all() for t in tensors.values()), "weights are not finite")
    line.happened.append("2 of 8 steps skipped, counted and their clips kept; weights finite")
    strict = train_job(folder / "many", *common, "oro.task.max_nonfinite=0", data=folder / "data")
    code = strict.run()
    line.times += 1
    _expect_one_line(line, strict, code, "non-finite")
    line.happened.append(f"above oro.task.max_nonfinite: one line, exit code {code}")
    return line


def truncated_clip(folder: Path, times: int, rng: random.Random) -> Line:
    """A frame of a training clip is cut in half while the run reads clips from the disk."""
    line = Line("a clip truncated while training")
    straight = train_job(folder / "straight", "data.cache=false")
    assert straight.run() == 0, straight.last_line()
    job = train_job(folder / "struck", "data.cache=false")
    pid = job.start()
    data = folder / "struck" / "data"
    _until(pid, lambda: bool(list((folder / "struck").rglob("step_*.ckpt"))))
    for frame in data.glob("psft-*/clips/*/rgba_00000.jpg"):
        frame.write_bytes(frame.read_bytes()[: frame.stat().st_size // 2])
    code = wait(pid)
    line.times += 1
    _expect_one_line(line, job, code, "rgba_00000.jpg")
    line.happened.append(f"one line that names the file, exit code {code}")
    sizes = [o for o in job.options if o.startswith("simulation.")]
    repair = Job(
        "simulate",
        folder / "struck",
        ("datasets=[psft]", *sizes, f"data_dir={data}", "verify=true"),
    )
    line.expect(repair.run() == 0, f"simulate.py verify=true: {repair.last_line()}")
    line.happened.append("simulate.py verify=true made the clips anew, the same command went on")
    line.expect(job.run() == 0, f"it ended with: {job.last_line()}")
    line.expect(trained(job.folder) == trained(straight.folder), "other weights")
    return line


def clock_jump(folder: Path, times: int, rng: random.Random) -> Line:
    """The wall clock jumps a day back and forth while it trains; a newer file looks older."""
    line = Line("clock jumps of a day, train.py")
    expected = _undisturbed(train_job, trained, folder / "undisturbed")
    for jump_s in (-DAY_S, DAY_S):
        job = train_job(folder / f"jump{jump_s:+.0f}")
        job.prepare = _Jump(jump_s)
        line.times += 1
        line.expect(job.run() == 0, f"it ended with: {job.last_line()}")
        line.expect(trained(job.folder) == expected, "other result")
        line.happened.append("no effect on the result")
    job = train_job(folder / "stopped")
    pid = job.start()
    _until(pid, lambda: bool(list((folder / "stopped").rglob("step_*.ckpt"))))
    os.kill(pid, signal.SIGTERM)
    wait(pid)
    for newest in (folder / "stopped").rglob("last.ckpt"):
        os.utime(newest, (time.time() - DAY_S, time.time() - DAY_S))
    line.times += 1
    line.expect(job.run() == 0, f"it ended with: {job.last_line()}")
    line.expect(trained(job.folder) == expected, "other result after a resume")
    line.happened.append("the newest checkpoint dated a day back: same result")
    return line


class _Jump:
    """From the 200th look at it, the wall clock is off by ``offset_s``."""

    def __init__(self, offset_s: float) -> None:
        self.offset_s, self.looks, self.real = offset_s, 0, time.time

    def __call__(self) -> None:
        time.time = self._now

    def _now(self) -> float:
        self.looks += 1
        return self.real() + (self.offset_s if self.looks > 200 else 0.0)


def two_runs(folder: Path, times: int, rng: random.Random) -> Line:
    """The same command a second time while the first one runs."""
    line = Line("two runs in one output folder, train.py")
    expected = _undisturbed(train_job, trained, folder / "undisturbed")
    job = train_job(folder / "both")
    first = job.start()
    _until(first, lambda: bool(list((folder / "both").rglob("config.yaml"))))
    second = train_job(folder / "both")
    second.log = folder / "second.txt"
    code = second.run()
    line.times += 1
    line.expect(is_running(first), "the first run was over too soon to tell")
    _expect_one_line(line, second, code, "in use by process")
    line.happened.append(f"the second: one line that names the first, exit code {code}")
    line.expect(wait(first) == 0, f"the first ended with: {job.last_line()}")
    line.expect(trained(folder / "both") == expected, "other result")
    return line


def _undisturbed(make: Callable[[Path], Job], result: Callable[[Path], str], place: Path) -> str:
    job = make(place)
    assert job.run() == 0, job.last_line()
    return result(place)


def _expect_one_line(line: Line, job: Job, code: int, word: str) -> None:
    """Ended as a user's mistake does: exit code 2 and one line, which says ``word``."""
    text = job.log.read_text(errors="replace")
    errors = [row for row in text.splitlines() if row.startswith("error: ")]
    line.expect(code == USER_ERROR, f"exit code {code}: {job.last_line()[:200]}")
    line.expect(bool(errors) and word.lower() in errors[-1].lower(), f"said: {errors[-1:]}")
    line.expect("Traceback" not in text, "a traceback")


def _until(pid: int, condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert is_running(pid), "the run was over before the fault"
        assert time.monotonic() < deadline, "the moment for the fault never came"
        time.sleep(0.002)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def tmpfs(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A small disk of its own at ``place``; yields what remounts it. Needs root."""
    if os.geteuid() != 0:
        raise SystemExit("this fault mounts a tmpfs: run it as root (in a container)")
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield lambda change: _remount(place, change)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _remount(place: Path, options: str) -> None:
    command = ["mount", "-o", f"remount,{options}", str(place)]
    subprocess.run(command, check=True, capture_output=True)
