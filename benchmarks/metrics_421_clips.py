"""Wall time of all 421 clips' metrics (361 real-like, 60 simulated-like) on two processes.

    OMP_NUM_THREADS=1 python benchmarks/metrics_421_clips.py [--gen_frames 32 --gen_fps 16]

Masks are drawn, not real: an ellipse falls, bounces and rests, with a ragged edge that differs in
every frame, as a tracker's does; the generated one falls more slowly and drifts. Real-like clips
have 120 frames a second for 1 to 4 s, simulated-like ones 32 frames at 16 Hz, all at 256 x 256;
objects are 20 to 120 px across (the paper prints no sizes). They are written as compressed .npz
files first. Then ``evaluate_many`` reads and scores them: what is timed is all of that, the start
of the processes included; CPU time is what all workers used. The last lines split the CPU time of
one process into reading the masks and scoring them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pisa.metrics import PROTOCOLS, PairMasks, evaluate_many, evaluate_pair

SIZE, NUM_REAL, NUM_SIMULATED = 256, 361, 60


def load(path: Path) -> PairMasks:
    with np.load(path) as stored:
        return PairMasks(
            stored["gt"], stored["gen"], float(stored["gt_fps"]), float(stored["gen_fps"])
        )


def fall(seconds: np.ndarray, top: float, floor: float, fall_s: float) -> np.ndarray:
    """Height of the centre in px (y downwards): a fall, one bounce to a tenth, rest."""
    down = top + (floor - top) * (seconds / fall_s) ** 2
    since = seconds - fall_s
    bounce_s = 2 * fall_s * np.sqrt(0.1)
    up = floor - 4 * 0.1 * (floor - top) * since * (bounce_s - since) / bounce_s**2
    return np.where(seconds < fall_s, down, np.where(since < bounce_s, up, floor))


def track(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, radii: tuple[float, float]
) -> np.ndarray:
    """Masks ``[T, H, W]`` of an ellipse around each (x, y), with one of eight ragged edges."""
    reach = int(1.1 * max(radii)) + 1
    stamps = [ragged_ellipse(random, reach, radii) for _ in range(8)]
    masks = np.zeros((len(x), SIZE + 2 * reach, SIZE + 2 * reach), dtype=bool)
    for mask, cx, cy in zip(masks, np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        cx, cy = np.clip((cx, cy), 0, SIZE - 1)
        mask[cy : cy + 2 * reach + 1, cx : cx + 2 * reach + 1] = stamps[random.integers(8)]
    return masks[:, reach:-reach, reach:-reach]


def ragged_ellipse(
    random: np.random.Generator, reach: int, radii: tuple[float, float]
) -> np.ndarray:
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    angle = np.arctan2(rows, columns)
    edge = 1.0
    for waves, phase in zip(random.integers(3, 12, 2), random.uniform(0, 6.28, 2), strict=True):
        edge = edge + 0.03 * np.cos(waves * angle + phase)
    return np.hypot(columns / radii[0], rows / radii[1]) <= edge


def write_clip(path: Path, seed: int, real: bool, gen_frames: int, gen_fps: float) -> int:
    """Write one pair; returns its number of ground-truth frames."""
    random = np.random.default_rng(seed)
    gt_fps, num_frames = (120.0, int(120 * random.uniform(1, 4))) if real else (16.0, 32)
    radii = tuple(random.uniform(10, 60, size=2))
    top, floor = radii[1] + 4, SIZE - radii[1] - random.uniform(0, 30)
    fall_s, x = random.uniform(0.35, 0.7), random.uniform(70, SIZE - 70)
    gt_s, gen_s = np.arange(num_frames) / gt_fps, np.arange(gen_frames) / gen_fps
    drift = random.normal(0, 15) * np.minimum(gen_s / fall_s, 1)
    gen_y = fall(gen_s, top, floor, fall_s * random.uniform(0.9, 1.8))
    np.savez_compressed(
        path,
        gt=track(random, np.full(num_frames, x), fall(gt_s, top, floor, fall_s), radii),
        gen=track(random, x + drift, gen_y, radii),
        gt_fps=gt_fps,
        gen_fps=gen_fps,
    )
    return num_frames


def timed(run: Callable[[], list]) -> tuple[list, float, float]:
    """Results, wall seconds, CPU seconds of this process and of its finished children."""
    cpu, wall = sum(os.times()[:4]), time.perf_counter()
    results = run()
    return results, time.perf_counter() - wall, sum(os.times()[:4]) - cpu


def cpu_of_parts(paths: list[Path]) -> dict[str, float]:
    """CPU seconds of this process for reading all clips, and for scoring them per protocol."""
    spent = dict.fromkeys(["reading", *PROTOCOLS], 0.0)
    for path in paths:
        start = time.process_time()
        pair = load(path)
        spent["reading"] += time.process_time() - start
        masks, rates_hz = (pair.gt_masks, pair.gen_masks), (pair.gt_fps_hz, pair.gen_fps_hz)
        for protocol in PROTOCOLS:
            start = time.process_time()
            evaluate_pair(*masks, *rates_hz, protocol=protocol)
            spent[protocol] += time.process_time() - start
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gen_frames", type=int, default=32)
    parser.add_argument("--gen_fps", type=float, default=16.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:04d}.npz" for i in range(NUM_REAL + NUM_SIMULATED)]
        frames = [
            write_clip(path, i, i < NUM_REAL, options.gen_frames, options.gen_fps)
            for i, path in enumerate(paths)
        ]
        print(f"{len(paths)} clips, {sum(frames)} true frames, {options.workers} workers")
        for protocol in PROTOCOLS:
            for _ in range(options.repeats):
                results, wall_s, cpu_s = timed(
                    lambda protocol=protocol: list(
                        evaluate_many(load, paths, protocol=protocol, num_workers=options.workers)
                    )
                )
                for error in (r for r in results if isinstance(r, Exception)):
                    raise error
                compared = sum(r["num_frames_compared"] for r in results)
                l2 = np.mean([r["l2"] for r in results])
                print(
                    f"{protocol:<9}{wall_s:6.1f} s wall, {cpu_s:6.1f} s CPU, "
                    f"{compared} frames compared, mean l2 {l2:.4f}",
                    flush=True,
                )
        for part, seconds in cpu_of_parts(paths).items():
            print(f"one process, {part}: {seconds:.1f} s CPU")


if __name__ == "__main__":
    main()
