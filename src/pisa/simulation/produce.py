"""Data sets in parallel: every clip is a function of its seed, so a set can resume anywhere."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pisa.simulation.fast import FastSimulator
from pisa.types import Clip, PisaError

WriteClip = Callable[..., None]  # (folder, clip, *, extra)

MIN_CLIPS_FOR_WORKERS = 100  # a worker takes longer to start than so few clips take to make


@dataclass(frozen=True)
class DataSetSpec:
    """One data set; clip ``i`` has seed ``first_seed + i``."""

    simulator: FastSimulator
    split: str  # "train" or "test": which objects, materials and backgrounds
    num_clips: int
    first_seed: int

    def clip_name(self, index: int) -> str:
        return f"{index:06d}"

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any number of the spec."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def produce(
    spec: DataSetSpec,
    clips_folder: Path,
    write: WriteClip,
    *,
    num_workers: int,
) -> Iterator[str]:
    """Make the clips that are not there yet; yields the name of each as it is finished.

    ``write(folder, clip, extra=...)`` must make a clip appear whole or not at all.
    """
    missing = [i for i in range(spec.num_clips) if not (clips_folder / spec.clip_name(i)).is_dir()]
    if num_workers < 1:
        raise PisaError("num_workers must be at least 1")
    if len(missing) < MIN_CLIPS_FOR_WORKERS or num_workers == 1:
        for index in missing:
            yield _make(spec, index, clips_folder, write)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(num_workers, len(missing)), context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        try:
            yield from _run(pool, spec, clips_folder, write, missing)
        except BrokenProcessPool as error:
            raise PisaError(
                "a simulation worker died (out of memory?); run the same command to go on"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(
    pool: ProcessPoolExecutor, spec: DataSetSpec, folder: Path, write: WriteClip, missing: list[int]
) -> Iterator[str]:
    waiting: set[Future[str]] = set()
    queue = iter(missing)
    while True:
        for index in queue:
            waiting.add(pool.submit(_make, spec, index, folder, write))
            if len(waiting) >= 64:
                break
        if not waiting:
            return
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _make(spec: DataSetSpec, index: int, folder: Path, write: WriteClip) -> str:
    name = spec.clip_name(index)
    clip, extra = _simulate(spec, index, name)
    write(folder / name, clip, extra=extra)
    return name


def _simulate(spec: DataSetSpec, index: int, name: str) -> tuple[Clip, dict[str, Any]]:
    return spec.simulator.make_clip(spec.first_seed + index, spec.split, name)
