"""The prior over drop scenes (paper section 4.1 and Appendix K); every number is a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pisa.errors import PisaError
from pisa.ranges import (
    Count,
    CountInterval,
    Fraction,
    FractionInterval,
    FrameCount,
    Interval,
    NonNegative,
    Positive,
    PositiveInterval,
    WholeInterval,
)
from pisa.simulation.assets import LIBRARIES, asset_names, load_asset, lowest_point_m
from pisa.simulation.materials import identity
from pisa.types import GRAVITY_M_S2, Camera

MAX_CAMERA_STEPS = 200
MAX_OBJECTS = 10  # drawn until one is large enough in the picture
LATER: Any = {"digest": "where changed"}  # fields that came after the first data sets were made


@dataclass(frozen=True)
class Prior:
    """Distributions of a data set; ranges are ``(low, high)``, drawn uniformly.

    ``size_m`` and ``span_px`` are alternatives: the paper's objects have a true size; the tiny
    prior asks for a span in pixels at the chosen camera, because true sizes would be 4 px. With
    neither, scanned objects (``assets`` "gso") keep the size they have.
    """

    num_dropping: CountInterval = (1, 6)
    num_pile: WholeInterval = (0, 4)  # objects under each dropping object
    drop_height_m: Interval = (0.5, 1.5)  # of the lowest point
    region_m: Positive = 2.0
    camera_height_m: PositiveInterval = (0.4, 0.6)
    camera_distance_m: NonNegative = 1.0  # behind the region, before stepping back
    camera_step_m: PositiveInterval = (0.05, 0.3)
    focal_mm: Positive = 35.0
    sensor_mm: Positive = 32.0
    size_m: PositiveInterval | None = (0.08, 0.3)
    span_px: PositiveInterval | None = None
    reference_px: Count = 64  # image width at which span_px is meant
    restitution: FractionInterval = (0.1, 0.5)
    friction: Interval = (0.4, 0.9)
    shadows: bool = True
    motion: str = "fall"  # "fall", or "drift" for the pre-training clips (simulation/physics.py)
    assets: str = field(default="toys", metadata=LATER)  # or "gso", the paper's; "household"
    step_hz: Count = field(default=240, metadata=LATER)  # of the physics
    num_frames: FrameCount = field(default=32, metadata=LATER)  # of the Kubric backend
    fps_hz: Count = field(default=16, metadata=LATER)
    pile_jitter_m: NonNegative = field(default=0.05, metadata=LATER)  # standard deviation, x and y
    density_kg_m3: Positive = field(default=300.0, metadata=LATER)
    rolling_friction: NonNegative = field(default=0.002, metadata=LATER)  # spinning too
    # Of the picture, by each dropping object's way down: smaller ones are drawn again, ten times
    min_column_share: Fraction = field(default=0.0, metadata=LATER)

    @classmethod
    def of(cls, **values: Any) -> Prior:
        """A prior from configuration values, where a range is any sequence of two numbers."""
        ranges = {k: tuple(v) for k, v in values.items() if _is_range(v)}
        return cls(**{**values, **ranges})

    def __post_init__(self) -> None:
        if self.assets not in LIBRARIES:
            raise PisaError(f"prior.assets must be one of {LIBRARIES}, not {self.assets!r}")
        given = [v for v in (self.size_m, self.span_px) if v is not None]
        if len(given) > 1 or (not given and self.assets != "gso"):
            raise PisaError("a prior needs exactly one of size_m and span_px")
        for name, value in vars(self).items():
            if isinstance(value, tuple) and (len(value) != 2 or value[0] > value[1]):
                raise PisaError(f"prior.{name} must be [low, high], not {list(value)}")
        if self.motion not in ("fall", "drift"):
            raise PisaError(f"prior.motion must be 'fall' or 'drift', not {self.motion!r}")
        if self.num_dropping[0] < 1:
            raise PisaError("prior.num_dropping must allow at least one dropping object")

    @property
    def physics(self) -> Physics:
        """How the floor and gravity act in its scenes."""
        return Physics(rolling_friction=self.rolling_friction)

    def draw(self, seed: int, split: str, resolution: int) -> Scene:
        """The scene of one seed; see ``draw_scene``."""
        return draw_scene(self, seed, split, resolution)


def _is_range(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


@dataclass(frozen=True)
class SceneObject:
    """One object; ``position_m`` is the centre of its bounding box at the start."""

    asset: str
    size_m: float  # longest side of the bounding box
    position_m: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    material: int
    dropping: bool
    restitution: float
    friction: float


@dataclass(frozen=True)
class Light:
    """A light of the Kubric backend beside the HDRI: the sun, or a point light."""

    kind: str  # "sun" or "point"
    energy: float  # W, or W/m^2 of the sun
    position_m: tuple[float, float, float]
    tilt_deg: tuple[float, float] = (0.0, 0.0)  # about x and y
    radius_m: float = 0.0


@dataclass(frozen=True)
class Physics:
    """How the floor and gravity act, and how long a pile settles."""

    gravity_m_s2: float = GRAVITY_M_S2
    floor_friction: float = 0.8
    floor_restitution: float = 0.6
    settle_s: float = 0.75
    # Per dropping object: what it is raised above a pile that reaches it; None: the scene is drawn
    # again, and piles stand where physics puts them rather than as drawn.
    raise_gaps_m: tuple[float, ...] | None = None
    rolling_friction: float = 0.002  # of every object, spinning too


@dataclass(frozen=True)
class Scene:
    """A drawn scene. Dropping objects stand last in ``objects`` (the release's order)."""

    seed: int
    split: str
    objects: tuple[SceneObject, ...]
    drop_heights_m: tuple[float, ...]  # of each dropping object's lowest point above the floor
    camera: Camera
    background: int
    shadows: bool = True
    motion: str = "fall"
    step_hz: int = 240
    density_kg_m3: float = 300.0
    wall_distance_m: float | None = None  # None: the background's own
    study: dict[str, Any] = field(default_factory=dict)  # goes to clip_info.json (ood, ambiguous)
    physics: Physics = Physics()
    camera_step_std_m: float | None = None  # the camera is placed after physics (release.settled)
    lights: tuple[Light, ...] = ()
    dome: bool = False  # the floor is part of a dome that shows the HDRI

    @property
    def num_pile(self) -> int:
        return sum(not o.dropping for o in self.objects)


@runtime_checkable
class ScenePrior(Protocol):
    """Interface of a prior for backends; a dataclass, so that its numbers name the data set."""

    @property
    def assets(self) -> str:
        """The library of objects it draws from."""
        ...

    def draw(self, seed: int, split: str, resolution: int) -> Scene:
        """The scene of one seed; the same arguments always give the same scene."""
        ...


def draw_scene(prior: Prior, seed: int, split: str, resolution: int) -> Scene:
    """Draw the scene of one seed; the same arguments always give the same scene.

    Raises ``PisaError`` when no camera position can see all objects.
    """
    rng = default_rng([7, seed])
    num_dropping = int(rng.integers(prior.num_dropping[0], prior.num_dropping[1] + 1))
    ground = _spread_positions(rng, num_dropping, prior.region_m)
    dropping, heights, pile = [], [], []
    for x, y in ground:
        height, thing = _large_enough(rng, prior, split, (x, y), resolution)
        dropping.append(thing)
        heights.append(height)
        for _ in range(int(rng.integers(prior.num_pile[0], prior.num_pile[1] + 1))):
            jitter = rng.normal(scale=prior.pile_jitter_m, size=2)
            place = (x + jitter[0], y + jitter[1], 0.0)
            pile.append(draw_object(rng, prior, split, place, dropping=False))
    camera, sized = _place_camera(rng, prior, pile + dropping, heights, resolution)
    return Scene(
        seed=seed,
        split=split,
        objects=tuple(sized),
        drop_heights_m=tuple(heights),
        camera=camera,
        background=identity(rng, split),
        shadows=prior.shadows,
        motion=prior.motion,
        step_hz=prior.step_hz,
        density_kg_m3=prior.density_kg_m3,
        physics=prior.physics,
    )


def _large_enough(
    rng: Generator, prior: Prior, split: str, ground: tuple[float, float], resolution: int
) -> tuple[float, SceneObject]:
    """Height and object: the first of ``MAX_OBJECTS`` draws whose way down is large in the picture.

    The picture is that of the camera's first place at its mean height.
    """
    height_m = sum(prior.camera_height_m) / 2
    place = (0.0, -prior.camera_distance_m, height_m)
    camera = Camera(place, resolution, resolution, prior.focal_mm, prior.sensor_mm)
    for _ in range(MAX_OBJECTS):
        height = rng.uniform(*prior.drop_height_m)
        thing = draw_object(rng, prior, split, (*ground, height), dropping=True)
        if not prior.min_column_share:
            break
        box = bounding_box(lift(sized_for(prior, thing, thing.size_m, camera), height))
        if column_share(box, camera) > prior.min_column_share:
            break
    return height, thing


def _spread_positions(rng: Generator, count: int, region_m: float) -> list[tuple[float, float]]:
    """Ground positions in the region (x within +-region/2, y in [0, region]), kept apart."""
    chosen: list[tuple[float, float]] = []
    for _ in range(count):
        options = [
            (rng.uniform(-region_m / 2, region_m / 2), rng.uniform(0, region_m)) for _ in range(8)
        ]
        chosen.append(max(options, key=lambda o: _nearest(o, chosen)) if chosen else options[0])
    return chosen


def _nearest(point: tuple[float, float], others: list[tuple[float, float]]) -> float:
    return min(np.hypot(point[0] - x, point[1] - y) for x, y in others)


def draw_object(
    rng: Generator, prior: Prior, split: str, position, *, dropping: bool, asset: str | None = None
) -> SceneObject:
    """A random object, at ``position``; with ``span_px`` its size is in pixels still.

    ``asset`` chooses the mesh.
    """
    names = asset_names(split, prior.assets)
    quaternion = rng.normal(size=4)
    a, b, c, d = (float(v) for v in quaternion / np.linalg.norm(quaternion))
    low, high = prior.size_m or prior.span_px or (0.0, 0.0)
    if asset is None:
        asset = names[int(rng.integers(len(names)))]
    drawn = float(rng.uniform(low, high))  # pixels until _place_camera, with span_px
    return SceneObject(
        asset=asset,
        size_m=drawn or load_asset(asset).extent,
        position_m=(float(position[0]), float(position[1]), float(position[2])),
        quaternion=(a, b, c, d),
        material=identity(rng, split),
        dropping=dropping,
        restitution=float(rng.uniform(*prior.restitution)),
        friction=float(rng.uniform(*prior.friction)),
    )


def _place_camera(rng: Generator, prior: Prior, objects, heights, resolution: int):
    """Step back in random increments until every object is inside the frame (Appendix K)."""
    height = float(rng.uniform(*prior.camera_height_m))
    distance = prior.camera_distance_m
    drawn = [o.size_m for o in objects]
    for _ in range(MAX_CAMERA_STEPS):
        camera = Camera(
            (0.0, -distance, height), resolution, resolution, prior.focal_mm, prior.sensor_mm
        )
        sized = [sized_for(prior, o, s, camera) for o, s in zip(objects, drawn, strict=True)]
        pile, dropping = sized[: -len(heights)], sized[-len(heights) :]
        lifted = [lift(o, h) for o, h in zip(dropping, heights, strict=True)]
        grounded = [lift(o, 0.0) for o in sized]
        if all(object_in_view(o, camera) for o in lifted + grounded):
            return camera, pile + lifted
        distance += float(rng.uniform(*prior.camera_step_m))
    raise PisaError(
        f"no camera position within {distance:.0f} m sees all objects; "
        "make prior.region_m or prior.drop_height_m smaller"
    )


def sized_for(prior: Prior, thing: SceneObject, drawn: float, camera: Camera) -> SceneObject:
    """With ``span_px``, the object so large that it spans ``drawn`` pixels at its depth."""
    if prior.span_px is None:
        return thing
    depth = thing.position_m[1] - camera.position_m[1]
    focal_px = prior.focal_mm / prior.sensor_mm * prior.reference_px
    return replace(thing, size_m=drawn * depth / focal_px)


def lift(thing: SceneObject, height_m: float) -> SceneObject:
    """The object with its lowest point at ``height_m``."""
    x, y, _ = thing.position_m
    lowest = lowest_point_m(thing.asset, thing.size_m, thing.quaternion)
    return replace(thing, position_m=(x, y, height_m - lowest))


def object_in_view(thing: SceneObject, camera: Camera) -> bool:
    """Whether the whole object is in the frame."""
    x, y, z = (thing.position_m[i] - camera.position_m[i] for i in range(3))
    half_view = y * camera.sensor_mm / camera.focal_mm / 2
    radius = 0.55 * thing.size_m
    return y > radius and abs(x) + radius < half_view and abs(z) + radius < half_view


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the world."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a volume."""
        return all(
            a < d and c < b
            for a, b, c, d in zip(self.low, self.high, other.low, other.high, strict=True)
        )


def bounding_box(thing: SceneObject) -> Box:
    """The box around the turned mesh."""
    hull = Rotation.from_quat(thing.quaternion).apply(load_asset(thing.asset).hull) * thing.size_m
    low, high = hull.min(axis=0) + thing.position_m, hull.max(axis=0) + thing.position_m
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def on_top_of(thing: SceneObject, height_m: float) -> SceneObject:
    """The object with the lower side of its box at ``height_m``."""
    x, y, z = thing.position_m
    return replace(thing, position_m=(x, y, z + height_m - float(bounding_box(thing).low[2])))


def column_corners(box: Box, camera: Camera) -> NDArray[np.floating] | None:
    """The corners ``[8, 2]`` (right, up) of a box reaching down to the floor, in picture widths.

    The picture's middle is the origin. None where a corner lies beside or behind the camera.
    """
    sides = [(box.low[0], box.high[0]), (box.low[1], box.high[1]), (0.0, box.high[2])]
    corners = np.array([(x, y, z) for x in sides[0] for y in sides[1] for z in sides[2]])
    right, forward, up = (corners - camera.position_m).T
    if forward.min() <= 0:
        return None
    return np.stack([right, up], axis=1) / forward[:, None] * camera.focal_mm / camera.sensor_mm


def column_share(box: Box, camera: Camera) -> float:
    """Area of the rectangle around an object's way down, as a fraction of the picture.

    Parts outside the picture count: the camera goes back until there are none.
    """
    corners = column_corners(box, camera)
    return np.inf if corners is None else float(np.prod(np.ptp(corners, axis=0)))
