"""Clips read per second by two processes: clip folders (JPEG) against the packed form.

    python benchmarks/read_clips.py DATA_SET

Needs a data set of 32 frames at 256x256 for the issue's figure. The files are read once before, so
that the page cache holds them: this measures decoding and copying, not the disk. Prints clips per
second of wall time and of CPU time (which other jobs on the machine don't slow), then a profile.
"""

import cProfile
import multiprocessing
import pstats
import sys
import time
from pathlib import Path

import torch

from pisa.data.clip_io import read_clip
from pisa.data.manifest import list_clips
from pisa.data.packed import PackedClips, pack

PROCESSES = 2


def read_folders(data_set: Path, num_clips: int) -> float:
    torch.set_num_threads(1)
    paths = list_clips(data_set)
    started = time.process_time()
    for i in range(num_clips):
        read_clip(paths[i % len(paths)])
    return time.process_time() - started


def read_packed(data_set: Path, num_clips: int) -> float:
    torch.set_num_threads(1)
    clips = PackedClips(data_set / "packed")
    started = time.process_time()
    for i in range(num_clips):
        clips.video(i % len(clips))
    return time.process_time() - started


def read_packed_masks(data_set: Path, num_clips: int) -> float:
    torch.set_num_threads(1)
    clips = PackedClips(data_set / "packed")
    started = time.process_time()
    for i in range(num_clips):
        clips.video(i % len(clips)), clips.masks(i % len(clips))
    return time.process_time() - started


def main() -> None:
    data_set = Path(sys.argv[1])
    if not (data_set / "packed").is_dir():
        pack(data_set)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for read, num_clips in ((read_folders, 10), (read_packed, 400), (read_packed_masks, 100)):
            jobs = [(data_set, len(list_clips(data_set)))] * PROCESSES
            pool.starmap(read, jobs)  # warm up
            started = time.monotonic()
            cpu_s = sum(pool.starmap(read, [(data_set, num_clips)] * PROCESSES))
            wall = PROCESSES * num_clips / (time.monotonic() - started)
            cpu = PROCESSES * PROCESSES * num_clips / cpu_s
            print(f"{read.__name__}: {wall:.0f} clips/s wall, {cpu:.0f} clips/s on two free cores")
    for read in (read_folders, read_packed_masks):
        profile = cProfile.Profile()
        profile.runcall(read, data_set, 5)
        print(read.__name__)
        pstats.Stats(profile).sort_stats("tottime").print_stats(6)


if __name__ == "__main__":
    main()
