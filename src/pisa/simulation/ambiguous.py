"""One first frame, many depths (paper Appendix F, Figure 6): the prior of the ambiguous sets.

An initial scene of one object is drawn as for the training set. Then the object is scaled and moved
along the rays of the camera to another depth, which leaves the image as it is, and dropped.

With ``Z`` the depth of the object's centre and ``Y`` the height of its lowest point, every member
of such a family obeys ``Y = h + beta Z`` with one slope ``beta``, however deep the object itself
is: the map is a scaling about the camera's centre. ``Z`` is uniform, so that drop times follow
Eq. 4 exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from numpy.random import default_rng

from pisa.errors import PisaError
from pisa.ops.drop_ray import DropRay, fallen_m
from pisa.ranges import Count, NonNegative, Positive, PositiveInterval
from pisa.simulation.scene import LATER, Prior, Scene, SceneObject, draw_scene, object_in_view

MAX_DRAWS = 1000
DRAW_STRIDE = 1_000_003


@dataclass(frozen=True)
class AmbiguousPrior:
    """Seeds ``trajectories * k ... + trajectories - 1`` are the members of scene ``k``.

    Initial scenes follow ``scene`` with one dropping object, nothing on the floor and no shadows.
    Their slope is at least ``min_slope`` (lower rays reach the floor before ``depth_m[1]``) and at
    most ``max_slope`` (higher objects leave the picture). Their longest fall takes at most
    ``max_drop_s``, so that every impact is in the clip. With ``num_slopes`` the object is moved up
    or down so that scene ``k`` has the ``k mod num_slopes``-th of as many evenly spaced slopes.
    ``camera_height_m`` puts every camera at one height, so that a first frame determines
    ``p(t|y)`` but for the depth. ``even_depths`` spaces the depths of a scene evenly instead of
    drawing them.
    """

    scene: Prior
    depth_m: PositiveInterval = (2.0, 18.0)
    trajectories: Count = 5
    min_slope: NonNegative = 0.0
    max_drop_s: Positive = 1.9
    num_slopes: Count | None = None
    wall_distance_m: Positive = 30.0  # behind the deepest object
    camera_height_m: Positive | None = field(default=None, metadata=LATER)  # None: the scene's
    even_depths: bool = field(default=False, metadata=LATER)
    max_slope: Positive = field(default=0.3, metadata=LATER)  # the picture ends at 0.457

    @classmethod
    def of(cls, **values: Any) -> AmbiguousPrior:
        """A prior from configuration values, where a range is any sequence of two numbers."""
        low, high = values.pop("depth_m")
        return cls(depth_m=(float(low), float(high)), **values)

    def __post_init__(self) -> None:
        if not 0 < self.depth_m[0] < self.depth_m[1]:
            raise PisaError("prior.depth_m must be a range of positive depths, the nearer first")
        if self.trajectories < 1 or (self.num_slopes is not None and self.num_slopes < 1):
            raise PisaError("prior.trajectories and prior.num_slopes must be at least 1")

    @property
    def assets(self) -> str:
        return self.scene.assets

    def draw(self, seed: int, split: str, resolution: int) -> Scene:
        """The scene of one seed. Raises ``PisaError`` when no initial scene is accepted."""
        group, member = divmod(seed, self.trajectories)
        initial, slope = self._initial(group, split, resolution)
        low, high = self.depth_m
        if self.even_depths:
            depth_m = low + (member + 0.5) / self.trajectories * (high - low)
        else:
            depth_m = float(default_rng([9, group, member]).uniform(low, high))
        scene = at_depth(initial, depth_m)
        study = {"kind": "ambiguous", "group": group, "member": member, "slope": slope}
        study |= {"depth_m": depth_m, "height_m": scene.drop_heights_m[-1]}
        study |= {"depth_range_m": list(self.depth_m)}
        return replace(scene, wall_distance_m=self.wall_distance_m, study=study)

    def _initial(self, group: int, split: str, resolution: int) -> tuple[Scene, float]:
        alone = replace(self.scene, num_dropping=(1, 1), num_pile=(0, 0), shadows=False)
        if self.camera_height_m is not None:
            alone = replace(alone, camera_height_m=(self.camera_height_m, self.camera_height_m))
        for attempt in range(MAX_DRAWS):
            scene = draw_scene(alone, group + attempt * DRAW_STRIDE, split, resolution)
            low, high = self._slopes(scene)
            if self.num_slopes is not None and low < high:
                step = (high - low) / self.num_slopes
                scene = with_slope(scene, low + (group % self.num_slopes + 0.5) * step)
            slope = ray_of(scene).slope
            if low <= slope <= high and object_in_view(scene.objects[-1], scene.camera):
                return scene, slope
        raise PisaError(
            f"no initial scene in {MAX_DRAWS} draws fits prior.min_slope={self.min_slope:g} and "
            f"prior.max_drop_s={self.max_drop_s:g}; make the one smaller or the other larger"
        )

    def _slopes(self, scene: Scene) -> tuple[float, float]:
        """The slopes that are kept: no object starts under the floor, no fall is too long."""
        camera_m = scene.camera.position_m[2]
        highest = (float(fallen_m(self.max_drop_s)) - camera_m) / self.depth_m[1]
        return self.min_slope, min(highest, self.max_slope)


def ray_of(scene: Scene) -> DropRay:
    """The ray from the camera to the lowest point's height at the centre's depth."""
    camera = scene.camera
    rise_m = scene.drop_heights_m[-1] - camera.position_m[2]
    return DropRay(rise_m / depth_of(scene.objects[-1], scene), camera.position_m[2])


def depth_of(thing: SceneObject, scene: Scene) -> float:
    """Depth of an object's centre along the view axis, in metres."""
    return thing.position_m[1] - scene.camera.position_m[1]


def at_depth(scene: Scene, depth_m: float) -> Scene:
    """The scene with its dropping object scaled about the camera's centre; the image stays."""
    thing = scene.objects[-1]
    factor = depth_m / depth_of(thing, scene)
    x, y, z = (
        c + factor * (p - c) for p, c in zip(thing.position_m, scene.camera.position_m, strict=True)
    )
    moved = replace(thing, position_m=(x, y, z), size_m=factor * thing.size_m)
    camera_m = scene.camera.position_m[2]
    height_m = camera_m + factor * (scene.drop_heights_m[-1] - camera_m)
    return replace(scene, objects=(*scene.objects[:-1], moved), drop_heights_m=(height_m,))


def with_slope(scene: Scene, slope: float) -> Scene:
    """The scene with its dropping object moved up or down until its ray has that slope."""
    thing, ray = scene.objects[-1], ray_of(scene)
    lift_m = (slope - ray.slope) * depth_of(thing, scene)
    x, y, z = thing.position_m
    moved = replace(thing, position_m=(x, y, z + lift_m))
    height_m = scene.drop_heights_m[-1] + lift_m
    return replace(scene, objects=(*scene.objects[:-1], moved), drop_heights_m=(height_m,))
