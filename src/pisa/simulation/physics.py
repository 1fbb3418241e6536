"""Trajectories of a scene: falls by PyBullet, 240 Hz unless told (paper section 4.1), and drifts.

Drifts are for the clips the tiny base model is pre-trained on. The paper's base model has seen the
world but cannot drop things. Here the objects hover, drift, rise or slide: each moves from its
start to a target on a smooth path and never accelerates downwards as a falling body does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pisa.errors import PisaError
from pisa.simulation.assets import load_asset
from pisa.simulation.scene import Box, Physics, Scene, SceneObject, bounding_box, on_top_of
from pisa.types import Camera, Poses

CLEARANCE_M = 0.05  # between the settled pile and a dropping object
HOVER_SHARE = 0.15
SLIDE_SHARE = 0.3
MAX_DESCENT_M = 0.15  # a drift may end at most this far below its start


@contextmanager
def _silenced() -> Iterator[None]:
    """File descriptors 1 and 2 go to the null device meanwhile: the prints come from C."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)


with _silenced():
    import pybullet
    from pybullet_utils.bullet_client import BulletClient


@contextmanager
def bullet() -> Iterator[BulletClient]:
    """An empty headless Bullet world; the process keeps one and resets it before each use."""
    client = _client(os.getpid())
    client.resetSimulation()
    yield client


@cache
def _client(pid: int) -> BulletClient:
    with _silenced():
        return BulletClient(connection_mode=pybullet.DIRECT)


@dataclass(frozen=True)
class Motion:
    """Poses at the frame times and, per dropping object, the time of its first contact."""

    poses: Poses
    contact_s: tuple[float | None, ...]


class Overlap(PisaError):
    """The settled pile reaches the dropping object; the caller draws another scene."""


def simulate_fall(scene: Scene, num_frames: int, fps_hz: int) -> Motion:
    """Let the pile settle, then release the dropping objects from rest.

    Frame ``k`` is at ``k / fps_hz`` seconds. Raises ``Overlap`` when the pile is in the way.
    """
    step_hz = scene.step_hz
    if step_hz % fps_hz:
        raise PisaError(f"fps must divide {step_hz}, not {fps_hz}")
    with bullet() as world:
        _prepare(world, step_hz, scene.physics)
        pile = [o for o in scene.objects if not o.dropping]
        dropping = [o for o in scene.objects if o.dropping]
        bodies = _settle(world, scene, pile)
        if scene.physics.raise_gaps_m is None:
            _check_clearance(world, bodies, dropping)
        else:
            at_rest = [_where(world, b, o) for b, o in zip(bodies, pile, strict=True)]
            dropping = _raised(at_rest, dropping, scene.physics.raise_gaps_m)
        bodies += [add_body(world, scene, o, o.position_m) for o in dropping]
        _release(world, bodies, len(pile), scene.physics.gravity_m_s2 / (2 * step_hz))
        return _run(world, bodies, len(pile), num_frames, step_hz // fps_hz, step_hz)


def _prepare(world: BulletClient, step_hz: int, physics: Physics) -> None:
    world.setGravity(0, 0, -physics.gravity_m_s2)
    world.setTimeStep(1 / step_hz)
    world.setPhysicsEngineParameter(deterministicOverlappingPairs=1, numSolverIterations=20)
    floor = world.createMultiBody(0, world.createCollisionShape(pybullet.GEOM_PLANE))
    world.changeDynamics(
        floor, -1, restitution=physics.floor_restitution, lateralFriction=physics.floor_friction
    )


def add_body(world: BulletClient, scene: Scene, thing: SceneObject, position_m) -> int:
    """Add an object as the convex hull of its mesh, body origin at the bounding-box centre."""
    hull = load_asset(thing.asset).hull * thing.size_m
    body = world.createMultiBody(
        scene.density_kg_m3 * thing.size_m**3,
        world.createCollisionShape(pybullet.GEOM_MESH, vertices=hull.tolist()),
        basePosition=position_m,
        baseOrientation=thing.quaternion,
    )
    world.changeDynamics(
        body,
        -1,
        restitution=thing.restitution,
        lateralFriction=thing.friction,
        rollingFriction=scene.physics.rolling_friction,
        spinningFriction=scene.physics.rolling_friction,
        linearDamping=0,
        angularDamping=0,
    )
    return int(body)


def _settle(world: BulletClient, scene: Scene, pile: list[SceneObject]) -> list[int]:
    """Stack the pile from the floor up, let it come to rest and stop what still moves."""
    bodies: list[int] = []
    level: dict[tuple[int, int], float] = {}
    for thing in pile:
        if scene.physics.raise_gaps_m is not None:
            bodies.append(add_body(world, scene, thing, thing.position_m))
            continue
        cell = (round(thing.position_m[0] * 2), round(thing.position_m[1] * 2))
        bottom = level.get(cell, 0.0) + 0.01
        centre = (*thing.position_m[:2], bottom + 0.6 * thing.size_m)
        level[cell] = bottom + 1.2 * thing.size_m
        bodies.append(add_body(world, scene, thing, centre))
    if pile:
        for _ in range(round(scene.physics.settle_s * scene.step_hz)):
            world.stepSimulation()
    return bodies


def _check_clearance(world: BulletClient, pile: list[int], dropping: list[SceneObject]) -> None:
    boxes = [world.getAABB(body) for body in pile]
    for thing in dropping:
        reach = 0.6 * thing.size_m + CLEARANCE_M
        low = np.array(thing.position_m) - reach
        high = np.array(thing.position_m) + reach
        for box_low, box_high in boxes:
            if np.all(low < box_high) and np.all(high > box_low):
                raise Overlap(f"the pile touches the dropping object {thing.asset}")


def _raised(
    pile: list[SceneObject], dropping: list[SceneObject], gaps_m: tuple[float, ...]
) -> list[SceneObject]:
    """Dropping objects that the settled pile below them reaches, moved above its top."""
    boxes = [bounding_box(thing) for thing in pile]
    found = []
    for thing, gap_m in zip(dropping, gaps_m, strict=True):
        own = bounding_box(thing)
        to_floor = Box((*own.low[:2], 0.0), own.high)
        top_m = max((box.high[2] for box in boxes if box.overlaps(to_floor)), default=0.0)
        found.append(on_top_of(thing, top_m + gap_m) if top_m > own.low[2] else thing)
    return found


def _where(world: BulletClient, body: int, thing: SceneObject) -> SceneObject:
    """The object where Bullet has it now."""
    position_m, quaternion = world.getBasePositionAndOrientation(body)
    return replace(thing, position_m=position_m, quaternion=quaternion)


def _release(world: BulletClient, bodies: list[int], num_pile: int, lift_m_s: float) -> None:
    """Zero all velocities; the half-step lift cancels Bullet's semi-implicit lag in free fall."""
    for i, body in enumerate(bodies):
        world.resetBaseVelocity(body, [0, 0, lift_m_s if i >= num_pile else 0.0], [0, 0, 0])


def _run(
    world, bodies: list[int], num_pile: int, num_frames: int, steps_per_frame: int, step_hz: int
) -> Motion:
    position = np.zeros((num_frames, len(bodies), 3))
    quaternion = np.zeros((num_frames, len(bodies), 4))
    contact: list[float | None] = [None] * (len(bodies) - num_pile)
    for frame in range(num_frames):
        for n, body in enumerate(bodies):
            position[frame, n], quaternion[frame, n] = world.getBasePositionAndOrientation(body)
        for step in range(steps_per_frame if frame + 1 < num_frames else 0):
            world.stepSimulation()
            time_s = (frame * steps_per_frame + step + 1) / step_hz
            for i in range(len(contact)):
                if contact[i] is None and world.getContactPoints(bodyA=bodies[num_pile + i]):
                    contact[i] = time_s
    return Motion(as_poses(position, quaternion), tuple(contact))


def as_poses(position: NDArray[np.floating], quaternion: NDArray[np.floating]) -> Poses:
    """Poses from arrays ``[T, N, 3]`` and ``[T, N, 4]``."""
    return Poses(torch.from_numpy(position), torch.from_numpy(quaternion))


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
