"""Time the ``official`` protocol against the plain KD-tree formulation, in one process.

    OMP_NUM_THREADS=1 python benchmarks/metrics_official.py [--repeats 5]

A 120 x 120 px object in 32 frames of 256 x 256 falls in the ground truth; the generated clip's
object is a few pixels off, lags behind, or lies far away. For each it prints the median CPU time of
a whole ``evaluate_pair`` call, of the same call with KD-trees and with the distance transform in
the Chamfer distance's place, and the ratios. CPU time, because wall-clock time on a shared
machine counts other people's work; the variants take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest import mock

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pisa.metrics import evaluate_pair, official
from pisa.metrics.chamfer import chamfer_px
from pisa.ops.masks import bounding_box

SIZE, FRAMES, SIDE = 256, 32, 120


def kd_tree_chamfer_px(first: np.ndarray, second: np.ndarray) -> float:
    """The plain formulation: every pixel of one mask asks a tree of the other's."""
    p, q = (np.argwhere(mask).astype(np.float32) for mask in (first, second))
    return float(KDTree(q).query(p)[0].mean() + KDTree(p).query(q)[0].mean())


def scipy_chamfer_px(first: np.ndarray, second: np.ndarray) -> float:
    """SciPy's Euclidean distance transform on the joint bounding box."""
    box = bounding_box(first | second)
    p, q = first[box], second[box]
    return float(distance_transform_edt(~q)[p].mean() + distance_transform_edt(~p)[q].mean())


def clip(shape: str, dx: int, *, slower: float = 1.0) -> np.ndarray:
    """Masks ``[T, H, W]`` of an object that falls from the top to the floor and rests."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    masks = []
    for t in range(FRAMES):
        x, y = 64 + dx, min(64 + 0.4 * (t * slower) ** 2, SIZE - 64)
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= (SIDE / 2) ** 2
        if shape == "square":
            inside = (abs(columns - x) < SIDE / 2) & (abs(rows - y) < SIDE / 2)
        masks.append(inside)
    return np.stack(masks)


def compare(gt: np.ndarray, gen: np.ndarray, repeats: int) -> dict[str, float]:
    """Median CPU seconds per variant; raises if the variants disagree by more than 1e-6."""
    variants = {"ours": chamfer_px, "kd-tree": kd_tree_chamfer_px, "scipy": scipy_chamfer_px}
    times: dict[str, list[float]] = {name: [] for name in variants}
    values: dict[str, float] = {}
    for _ in range(repeats):
        for name, function in variants.items():
            with mock.patch.object(official, "chamfer_px", function):
                start = time.process_time()
                values[name] = evaluate_pair(gt, gen, 16, 16)["chamfer"]
                times[name].append(time.process_time() - start)
    np.testing.assert_allclose(list(values.values()), values["kd-tree"], rtol=1e-6)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{SIDE} px object, {FRAMES} frames at {SIZE}^2, median CPU ms of {repeats} repeats")
    print(f"{'pair':<22}{'ours':>8}{'scipy':>8}{'kd-tree':>9}{'kd-tree / ours':>16}")
    for shape in ("square", "disc"):
        gt = clip(shape, 0)
        pairs = {"3 px aside": clip(shape, 3), "10 % slower": clip(shape, 3, slower=0.9)}
        pairs |= {"hovers": clip(shape, 3, slower=0.0), "100 px aside": clip(shape, 100)}
        for name, gen in pairs.items():
            t = compare(gt, gen, repeats)
            ours, scipy, kd_tree = (1e3 * t[key] for key in ("ours", "scipy", "kd-tree"))
            label = f"{shape}, {name}"
            row = f"{label:<22}{ours:>8.1f}{scipy:>8.1f}{kd_tree:>9.1f}{kd_tree / ours:>15.1f}x"
            print(row, flush=True)


if __name__ == "__main__":
    main()
