"""How far apart two falls from one first frame are; half of it is a bound for any model.

    python benchmarks/fall_predictability.py
        [--clips 60] [--restitution 0.1 0.5] [--friction 0.4 0.9] [--rolling-friction 0.002]

Each scene of ``prior=tiny`` is simulated twice. What its first frame doesn't show differs:
restitution and friction are drawn again, and every object is turned by about 1 degree, less than a
pixel. Prints mean and median of the strict L2 between the masks of the dropping object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from numpy.random import Generator, default_rng
from omegaconf import OmegaConf
from scipy.spatial.transform import Rotation

from pisa.errors import PisaError
from pisa.metrics import evaluate_pair
from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.physics import simulate_fall
from pisa.simulation.scene import Prior, Scene

PRIOR = Path(__file__).resolve().parents[1] / "configs" / "prior" / "tiny.yaml"
FRAMES, FPS_HZ, TURN_DEG = 16, 16, 1.0


def twin(scene: Scene, prior: Prior, rng: Generator) -> Scene:
    """The scene with what no picture shows drawn again."""
    objects = []
    for thing in scene.objects:
        turn = Rotation.from_rotvec(rng.normal(scale=np.radians(TURN_DEG), size=3))
        a, b, c, d = (turn * Rotation.from_quat(thing.quaternion)).as_quat().tolist()
        restitution, friction = rng.uniform(*prior.restitution), rng.uniform(*prior.friction)
        objects.append(
            replace(thing, quaternion=(a, b, c, d), restitution=restitution, friction=friction)
        )
    return replace(scene, objects=tuple(objects))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--restitution", type=float, nargs=2)
    parser.add_argument("--friction", type=float, nargs=2)
    parser.add_argument("--rolling-friction", type=float)
    given = parser.parse_args()
    names = ("restitution", "friction", "rolling_friction")
    changes = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    prior = instantiate(OmegaConf.merge(OmegaConf.load(PRIOR), changes))
    simulator = FastSimulator(prior, num_frames=FRAMES, fps_hz=FPS_HZ)
    found = []
    for seed in range(given.clips):
        rng = default_rng(seed)
        scene, _ = draw_moving_scene(prior, seed, "test", 64, FRAMES, FPS_HZ)
        try:
            masks = [
                simulator.clip_of(other, simulate_fall(other, FRAMES, FPS_HZ), "twin").masks[-1]
                for other in (twin(scene, prior, rng), twin(scene, prior, rng))
            ]
        except PisaError:  # turned by a degree, the pile reaches the dropping object
            continue
        row = evaluate_pair(*(m.numpy() for m in masks), FPS_HZ, FPS_HZ, protocol="strict")
        found.append(row["l2"])
    values = np.array(found, dtype=float)
    values = values[np.isfinite(values)]
    print(
        json.dumps(
            {
                "clips": len(values),
                "mean": values.mean().round(4),
                "median": np.median(values).round(4),
            }
        )
    )


if __name__ == "__main__":
    main()
