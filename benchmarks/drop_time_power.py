"""How many of 50 images pass the test of section 5.2 if drop times are a little off.

`python benchmarks/drop_time_power.py [--samples 128] [--repeats 4]`: true drop times of 50 rays,
those of each image moved by an error of its own (normal, root mean square in frames) and drawn
together about their mean by a factor; rays, depths and frames as in `scenario/drop_time_test`.
"""

from __future__ import annotations

import argparse

import numpy as np

from pisa.ops.drop_ray import DropRay
from pisa.section5.drop_study import LEVEL
from pisa.section5.drop_time import DropTimes, exact_ks, to_frames

FPS_HZ, NUM_FRAMES, IMAGES = 16.0, 16, 50
CAMERA_M, DEPTH_M, SLOPES = 0.5, (2.0, 18.0), (0.042, 0.178)
ERRORS = ((0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.3, 1.0), (0.5, 1.0), (0.8, 1.0), (1.5, 1.0))
SPREADS = ((0.0, 0.9), (0.0, 0.8), (0.2, 0.9))


def count_passed(error_frames: float, spread: float, samples: int, repeats: int) -> float:
    """The mean number of images with p >= 0.05 of the calibrated test."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(repeats):
        for slope in np.linspace(*SLOPES, IMAGES):
            truth = DropTimes(DropRay(float(slope), CAMERA_M), DEPTH_M)
            time_s = truth.sample(samples, rng)
            mean_s = time_s.mean()
            time_s = mean_s + spread * (time_s - mean_s) + rng.normal(0, error_frames) / FPS_HZ
            frames = to_frames(time_s, FPS_HZ, NUM_FRAMES)
            shares = truth.frame_shares(FPS_HZ, NUM_FRAMES)
            passed += exact_ks(frames, shares, rng)[1] >= LEVEL
    return passed / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args()
    print("error per image (frames rms)  spread  images that pass of 50")
    for error, spread in (*ERRORS, *SPREADS):
        passed = count_passed(error, spread, given.samples, given.repeats)
        print(f"{error:28.1f}  {spread:6.1f}  {passed:5.1f}", flush=True)


if __name__ == "__main__":
    main()
