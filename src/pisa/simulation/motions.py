"""Motions that are not falls, for the clips the tiny base model is pre-trained on.

The paper's base model has seen the world but cannot drop things. Here the objects hover, drift,
rise or slide: each moves from its start to a target on a smooth path and never accelerates
downwards as a falling body does.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator, default_rng
from scipy.spatial.transform import Rotation

from pisa.simulation.physics import Motion, as_poses
from pisa.simulation.scene import Scene, SceneObject
from pisa.types import Camera

HOVER_SHARE = 0.15
SLIDE_SHARE = 0.3
MAX_DESCENT_M = 0.15  # a drift may end at most this far below its start


def simulate_drift(scene: Scene, num_frames: int, fps_hz: int) -> Motion:
    """Kinematic poses: dropping objects hover, drift or slide, all others rest on the floor."""
    rng = default_rng([8, scene.seed])
    times = np.arange(num_frames) / fps_hz
    position = np.zeros((num_frames, len(scene.objects), 3))
    quaternion = np.zeros((num_frames, len(scene.objects), 4))
    for n, thing in enumerate(scene.objects):
        start = np.array(thing.position_m)
        moving = thing.dropping and rng.uniform() > HOVER_SHARE
        if not thing.dropping or rng.uniform() < SLIDE_SHARE:
            start[2] = 0.5 * thing.size_m
        end = _target(rng, thing, start, scene.camera) if moving else start
        progress = _progress(rng, times)[:, None]
        position[:, n] = start + progress * (end - start)
        quaternion[:, n] = _spin(rng, thing, times, moving)
    return Motion(as_poses(position, quaternion), (None,) * (len(scene.objects) - scene.num_pile))


def _target(rng: Generator, thing: SceneObject, start: np.ndarray, camera: Camera) -> np.ndarray:
    """A point at the same depth inside the view; on the floor for what starts there."""
    depth = start[1] - camera.position_m[1]
    half_view = depth * camera.sensor_mm / camera.focal_mm / 2 - 0.55 * thing.size_m
    x = rng.uniform(-half_view, half_view)
    if start[2] <= 0.5 * thing.size_m + 1e-6:
        return np.array([x, start[1], start[2]])
    top = max(camera.position_m[2] + half_view, start[2])
    return np.array([x, start[1], rng.uniform(start[2] - MAX_DESCENT_M, top)])


def _progress(rng: Generator, times: np.ndarray) -> np.ndarray:
    """0 at the start, 1 on arrival: constant speed up to quadratic, then at rest."""
    arrival_s, power = rng.uniform(0.35, 2.5), rng.uniform(1.0, 2.0)
    return np.clip(times / arrival_s, 0, 1) ** power


def _spin(rng: Generator, thing: SceneObject, times: np.ndarray, moving: bool) -> np.ndarray:
    axis = rng.normal(size=3)
    rate = rng.uniform(0, 3.0) * (moving and rng.uniform() < 0.5)
    turns = Rotation.from_rotvec(np.outer(times * rate, axis / np.linalg.norm(axis)))
    return (turns * Rotation.from_quat(thing.quaternion)).as_quat()
