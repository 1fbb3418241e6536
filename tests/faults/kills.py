"""kill -9 and SIGTERM at random moments; the same command again must end with the same result."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.jobs import (
    GRACE_S,
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

ORPHANS_S = 10.0  # in which the workers of a killed process must be gone


def kill_train(folder: Path, times: int, rng: random.Random) -> Line:
    return strike("kill -9 of train.py", folder, train_job, trained, times, rng, signal.SIGKILL)


def kill_simulate(folder: Path, times: int, rng: random.Random) -> Line:
    line = "kill -9 of simulate.py"
    return strike(line, folder, simulate_job, simulated, times, rng, signal.SIGKILL)


def kill_eval(folder: Path, times: int, rng: random.Random) -> Line:
    first = train_job(folder / "model")
    assert first.run() == 0, first.last_line()
    (weights,) = (folder / "model" / "runs").glob("*/weights.safetensors")

    def make(place: Path) -> Job:
        return eval_job(place, weights, folder / "model" / "data")

    return strike("kill -9 of eval.py", folder, make, scored, times, rng, signal.SIGKILL)


def sigterm(folder: Path, times: int, rng: random.Random) -> Line:
    name = f"SIGTERM with {GRACE_S:.0f} s grace, train.py"
    return strike(name, folder, train_job, trained, times, rng, signal.SIGTERM)


def strike(
    fault: str,
    folder: Path,
    make: Callable[[Path], Job],
    result: Callable[[Path], str],
    times: int,
    rng: random.Random,
    number: signal.Signals,
) -> Line:
    """Signal the command ``times`` times, each at a moment drawn from the whole run's duration.

    What was ended goes on in the same folder; a run that got through is compared and removed.
    """
    line = Line(fault)
    started = time.monotonic()
    whole = make(folder / "undisturbed")
    assert whole.run() == 0, whole.last_line()
    duration_s = time.monotonic() - started
    expected, place, finished = result(whole.folder), folder / "struck", 0
    while line.times < times:
        job = make(place)
        pid = job.start()
        time.sleep(rng.uniform(0.0, duration_s))
        if is_running(pid):
            line.times += 1
            _end(line, pid, number)
            _keep_log(job, folder / f"blow-{line.times:02d}.txt")
        elif wait(pid) != 0:
            line.lost.append(f"a later start ended with an error: {job.last_line()}")
            break
        else:
            line.expect(result(place) == expected, "a result differs from the undisturbed run's")
            finished += 1
            shutil.rmtree(place)
    job = make(place)
    line.expect(job.run() == 0, f"the last start ended with an error: {job.last_line()}")
    if not line.lost:
        line.expect(result(place) == expected, "the result differs from the undisturbed run's")
    line.note = (
        f"{finished + 1} runs got through by the same command, all with the undisturbed run's "
        f"result ({duration_s:.0f} s long), bit for bit"
        if not line.lost
        else f"{finished} runs got through"
    )
    return line


def _keep_log(job: Job, target: Path) -> None:
    """What the command printed until the blow, to look at where it ended otherwise than it should.

    The next start has a log of its own.
    """
    if job.log.exists():
        job.log.rename(target)


def _end(line: Line, pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
    sent = time.monotonic()
    try:
        code = wait(pid, GRACE_S)
    except TimeoutError:
        line.lost.append(f"it still ran {GRACE_S:.0f} s after the signal")
        return
    if number is signal.SIGTERM:
        line.expect(code in (0, 130), f"exit code {code} after SIGTERM")
        slow = time.monotonic() - sent
        line.happened.append(f"ended within {5 if slow < 5 else GRACE_S:.0f} s, exit code {code}")
    else:
        line.happened.append("ended at once")
    deadline = time.monotonic() + ORPHANS_S
    while (left := family_of(pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for orphan in left:
        os.kill(orphan, signal.SIGKILL)
    line.expect(not left, f"{len(left)} worker processes outlived it")
