"""The prior of the paper's released simulator (``sim_data/`` at af2aa44), number by number.

World axes are ours: x right, y along the view, z up. docs/reference/paper_vs_release.md has the
table of differences to the paper's text and to ``prior=paper``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator, default_rng

from pisa.errors import PisaError
from pisa.ranges import (
    Count,
    CountInterval,
    Fraction,
    Interval,
    NonNegative,
    Positive,
    WholeInterval,
)
from pisa.simulation.assets import asset_names
from pisa.simulation.materials import identity
from pisa.simulation.physics import Motion
from pisa.simulation.scene import (
    MAX_OBJECTS,
    Box,
    Light,
    Physics,
    Prior,
    Scene,
    SceneObject,
    bounding_box,
    column_corners,
    column_share,
    draw_object,
    on_top_of,
)
from pisa.types import Camera

MAX_POSES = 100  # of an object that overlaps another, as Kubric tries
MAX_STEPS = 5000  # of the camera
STACK_GAP_M = 0.001


@dataclass(frozen=True)
class ReleasePrior(Prior):
    """Fields beside those of ``Prior`` hold the release's numbers; ranges are drawn uniformly.

    Of ``Prior``'s, ``camera_step_m`` and ``pile_jitter_m`` have no meaning here.
    """

    num_dropping: CountInterval = (1, 5)
    num_pile: WholeInterval = (0, 3)
    min_column_share: Fraction = 0.025  # of the picture, by an object's way down
    camera_step_std_m: Positive = 0.05  # a step back is |N(0, std)|
    raise_mean_m: NonNegative = 0.005  # an object that the pile reaches: pile + |N(mean, std)|
    raise_std_m: NonNegative = 0.005
    gravity_m_s2: Positive = 10.0
    floor_friction: NonNegative = 1.0
    floor_restitution: Fraction = 0.0
    settle_frames: Count = 200
    sun_energy: Interval = (1.0, 6.0)
    sun_tilt_deg: Interval = (0.0, 45.0)  # about x and about y
    key_deg: Interval = (15.0, 45.0)  # beside the camera, on either side
    fill_deg: Interval = (15.0, 60.0)  # on the other side
    key_energy_w: NonNegative = 100.0
    fill_energy_w: NonNegative = 75.0
    back_energy_w: NonNegative = 75.0
    light_height_m: Positive = 1.5
    light_distance_m: Positive = 2.5
    light_radius_m: Positive = 1.0

    def draw(self, seed: int, split: str, resolution: int) -> Scene:
        """The scene before physics: the camera at its first place, the piles stacked.

        ``settled`` raises objects and moves the camera once the piles have come to rest.
        """
        rng = default_rng([17, seed])
        height_m = float(rng.uniform(*self.camera_height_m))
        camera = Camera(
            (0.0, -self.camera_distance_m, height_m),
            resolution,
            resolution,
            self.focal_mm,
            self.sensor_mm,
        )
        dropping: list[SceneObject] = []
        pile: list[SceneObject] = []
        count = int(rng.integers(self.num_dropping[0], self.num_dropping[1] + 1))
        for _ in range(count):
            dropping.append(self._dropping(rng, split, dropping, camera))
        for thing in dropping:
            pile += self._stack(rng, split, thing)
        gaps = abs(rng.normal(self.raise_mean_m, self.raise_std_m, size=count))
        return Scene(
            seed=seed,
            split=split,
            objects=(*pile, *dropping),
            drop_heights_m=tuple(bounding_box(thing).low[2] for thing in dropping),
            camera=camera,
            background=identity(rng, split),
            shadows=self.shadows,
            motion=self.motion,
            step_hz=self.step_hz,
            density_kg_m3=self.density_kg_m3,
            physics=Physics(
                self.gravity_m_s2,
                self.floor_friction,
                self.floor_restitution,
                self.settle_frames / self.fps_hz,
                tuple(float(gap) for gap in gaps),
            ),
            camera_step_std_m=self.camera_step_std_m,
            lights=self._lights(rng),
            dome=True,
        )

    def _dropping(
        self, rng: Generator, split: str, others: Sequence[SceneObject], camera: Camera
    ) -> SceneObject:
        """The first of ``MAX_OBJECTS`` draws whose column is large enough; else the last."""
        boxes = [bounding_box(other) for other in others]
        for _ in range(MAX_OBJECTS):
            thing = draw_object(rng, self, split, (0.0, 0.0, 0.0), dropping=True)
            for _ in range(MAX_POSES):
                thing = self._posed(rng, thing)
                if not any(bounding_box(thing).overlaps(box) for box in boxes):
                    break
            if column_share(bounding_box(thing), camera) > self.min_column_share:
                break
        return thing

    def _posed(self, rng: Generator, thing: SceneObject) -> SceneObject:
        """Turned at random, and its bounding box uniform within the spawn region."""
        turn = rng.normal(size=4)
        a, b, c, d = (float(v) for v in turn / np.linalg.norm(turn))
        turned = replace(thing, quaternion=(a, b, c, d), position_m=(0.0, 0.0, 0.0))
        box, half_m = bounding_box(turned), self.region_m / 2
        low = np.subtract((-half_m, 0.0, self.drop_height_m[0]), box.low)
        high = np.subtract((half_m, self.region_m, self.drop_height_m[1]), box.high)
        x, y, z = (float(v) for v in rng.uniform(low, np.maximum(low, high)))
        return replace(turned, position_m=(x, y, z))

    def _stack(self, rng: Generator, split: str, above: SceneObject) -> list[SceneObject]:
        """Distinct objects exactly under one, 1 mm apart on their bounding boxes."""
        x, y, _ = above.position_m
        count = int(rng.integers(self.num_pile[0], self.num_pile[1] + 1))
        names = asset_names(split, self.assets)
        chosen = rng.choice(len(names), size=min(count, len(names)), replace=False)
        stack, top_m = [], 0.0
        for index in chosen:
            thing = draw_object(
                rng, self, split, (x, y, 0.0), dropping=False, asset=names[int(index)]
            )
            stack.append(on_top_of(thing, top_m + STACK_GAP_M))
            top_m = bounding_box(stack[-1]).high[2]
        return stack

    def _lights(self, rng: Generator) -> tuple[Light, ...]:
        """The sun, and key, fill and back lights around the middle of the region."""
        tilt = rng.uniform(*self.sun_tilt_deg, size=2)
        sun = Light(
            "sun",
            float(rng.uniform(*self.sun_energy)),
            (0.0, 0.0, 10.0),
            (float(tilt[0]), float(tilt[1])),
        )
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        key = self._lamp(self.key_energy_w, side * float(rng.uniform(*self.key_deg)))
        fill = self._lamp(self.fill_energy_w, -side * float(rng.uniform(*self.fill_deg)))
        return sun, key, fill, self._lamp(self.back_energy_w, 180.0)

    def _lamp(self, energy_w: float, angle_deg: float) -> Light:
        """A point light; 0 degrees is the direction of the camera."""
        angle, middle_m = np.radians(angle_deg), self.region_m / 2
        x = self.light_distance_m * float(np.sin(angle))
        y = middle_m - self.light_distance_m * float(np.cos(angle))
        return Light("point", energy_w, (x, y, self.light_height_m), radius_m=self.light_radius_m)


def settled(scene: Scene, motion: Motion) -> Scene:
    """The scene with its objects where physics released them, and a camera that sees their falls.

    The camera goes back by |N(0, std)| until every column lies in the picture.

    Raises:
        PisaError: it never does.
    """
    assert scene.camera_step_std_m is not None, "only scenes of ReleasePrior"
    position, turn = motion.poses.position_m[0], motion.poses.quaternion[0]
    objects = tuple(
        replace(
            thing,
            position_m=tuple(position[n].tolist()),
            quaternion=tuple(turn[n].tolist()),
        )
        for n, thing in enumerate(scene.objects)
    )
    boxes = [bounding_box(thing) for thing in objects[scene.num_pile :]]
    camera = scene.camera
    for back_m in camera_steps(scene.seed, scene.camera_step_std_m):
        if all(_in_picture(box, camera) for box in boxes):
            heights = tuple(float(box.low[2]) for box in boxes)
            return replace(scene, objects=objects, drop_heights_m=heights, camera=camera)
        x, y, z = camera.position_m
        camera = replace(camera, position_m=(x, y - back_m, z))
    raise PisaError(f"seed {scene.seed}: no camera position sees all falls")


def camera_steps(seed: int, std_m: float) -> list[float]:
    """How far the camera of a scene goes back, step after step: |N(0, std)| each."""
    return abs(default_rng([19, seed]).normal(scale=std_m, size=MAX_STEPS)).tolist()


def _in_picture(box: Box, camera: Camera) -> bool:
    """Whether the whole way down lies in front of the camera and in the picture."""
    corners = column_corners(box, camera)
    return corners is not None and bool((abs(corners) <= 0.5).all())
