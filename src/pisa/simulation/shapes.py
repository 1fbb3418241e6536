"""Procedural things that a person knows at 20 pixels: bottles, mugs, chairs, hearts, cars.

Their names are ``shape:FAMILY/NUMBER``. The number draws the proportions, so that a family holds
many objects that are called by one word.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.random import Generator, default_rng

from pisa.errors import PisaError
from pisa.simulation.meshes import (
    FloatArray,
    Mesh,
    Profile,
    box,
    joined,
    obj_text,
    prism,
    ring,
    turned,
)

SHAPE_PREFIX = "shape:"
VARIANTS = 20  # objects of a family


def _ball(radius: float = 1.0, height: float = 1.0, z: float = 0.0, count: int = 11) -> Profile:
    angle = np.linspace(-np.pi / 2, np.pi / 2, count)
    return [(radius * np.cos(a), z + height * np.sin(a)) for a in angle]


# Profiles of turned things: radius and height from the bottom to the top.
PROFILES: dict[str, Profile] = {
    "egg": [(r * (1 - 0.18 * z), 1.3 * z) for r, z in _ball()],
    "disc": [(1, -0.3), (1, 0.3)],
    "can": [(0.95, -1.3), (1, -1.2), (1, 1.2), (0.95, 1.3)],
    "barrel": [(0.75 + 0.3 * r, 1.1 * z) for r, z in _ball(count=7)],
    "cone": [(1, -1), (1, -0.9), (0, 1)],
    "bucket": [(0.68, -0.9), (1, 0.9), (0.88, 0.9), (0.6, -0.5)],
    "capsule": [(0.6 * r, 0.6 * z + 0.6 * np.sign(z)) for r, z in _ball(count=10)],
    "bottle": [(0.7, -1.5), (0.75, -1.4), (0.75, 0.2), (0.3, 0.9), (0.3, 1.5)],
    "vase": [(0.45, -1.2), (0.9, -0.5), (1, 0), (0.75, 0.5), (0.4, 0.8), (0.62, 1.2)],
    "pin": [(0.4, -1.6), (0.72, -0.8), (0.68, -0.3), (0.34, 0.5), (0.3, 0.7), (0.44, 1.1),
            (0.36, 1.4), (0, 1.55)],
    "bell": [(1, -0.9), (0.95, -0.75), (0.65, -0.2), (0.55, 0.5), (0.3, 0.8), (0.15, 1.1)],
    "top": [(0, -1), (1, 0.1), (0.95, 0.35), (0.2, 0.5), (0.2, 1.0)],
    "mushroom": [(0.42, -1), (0.36, 0), (1, 0), (0.95, 0.3), (0.7, 0.65), (0, 0.85)],
    "hourglass": [(0.9, -1.2), (0.9, -1), (0.28, 0), (0.9, 1), (0.9, 1.2)],
    "pawn": [(0.8, -1.2), (0.8, -0.95), (0.45, -0.6), (0.3, 0.2), (0.5, 0.25), (0.3, 0.35),
             *_ball(0.48, 0.48, 0.75, 7)[1:]],
    "lamp": [(0.5, -1.2), (0.5, -1.05), (0.16, -1), (0.16, 0), (0.9, 0), (0.5, 1)],
    "goblet": [(0.6, -1.2), (0.6, -1.1), (0.17, -0.95), (0.17, -0.3), (0.78, 0.2), (0.7, 1.1)],
}  # fmt: skip


def _turned(profile: Profile) -> Callable[[Generator], Mesh]:
    def build(rng: Generator) -> Mesh:
        stretch, wide = rng.uniform(0.85, 1.25), rng.uniform(0.92, 1.08, size=len(profile))
        return turned([(r * k, z * stretch) for (r, z), k in zip(profile, wide, strict=True)])

    return build


def _mug(rng: Generator) -> Mesh:
    height = rng.uniform(0.85, 1.25)
    cup = turned([(0.92, -height), (1, -height + 0.1), (1, height), (0.86, height), (0.86, -0.6)])
    return joined(cup, ring(0.55 * height, 0.15, 0.5).moved((0.95, 0, 0)))


def _snowman(rng: Generator) -> Mesh:
    head = rng.uniform(0.5, 0.7)
    return joined(turned(_ball(1.0, 0.9, -0.6)), turned(_ball(head, head, 0.2 + head)))


def _dumbbell(rng: Generator) -> Mesh:
    end, reach = rng.uniform(0.5, 0.7), rng.uniform(0.75, 1.0)
    balls = [turned(_ball(end, end, z)) for z in (-reach, reach)]
    return joined(turned([(0.25, -reach), (0.25, reach)]), *balls)


def _table(rng: Generator) -> Mesh:
    height, leg = rng.uniform(0.8, 1.2), rng.uniform(0.24, 0.36)
    legs = [box((x, y, 0), (leg, leg, height)) for x in (-0.6, 0.6) for y in (-0.6, 0.6)]
    return joined(box((0, 0, height / 2 + 0.12), (1.6, 1.6, 0.26)), *legs)


def _chair(rng: Generator) -> Mesh:
    seat, back = rng.uniform(0.6, 0.9), rng.uniform(0.9, 1.3)
    legs = [box((x, y, 0), (0.28, 0.28, seat)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    top = seat / 2 + 0.12
    rest = box((0, 0.54, top + back / 2), (1.3, 0.24, back))
    return joined(box((0, 0, top), (1.3, 1.3, 0.26)), rest, *legs)


def _stairs(rng: Generator) -> Mesh:
    wide = rng.uniform(1.2, 2.2)
    return joined(*(box((0.8 * k - 0.8, 0, 0.3 * k), (0.8, wide, 0.6 * k + 0.6)) for k in range(3)))


def _toybrick(rng: Generator) -> Mesh:
    long = int(rng.integers(2, 4))
    studs = [
        turned([(0.32, 0), (0.32, 0.3)]).moved((x - (long - 1) / 2, y - 0.5, 0.4))
        for x in range(long)
        for y in (0, 1)
    ]
    return joined(box((0, 0, 0), (long, 2, rng.uniform(0.8, 1.1))), *studs)


def _car(rng: Generator) -> Mesh:
    long, cabin = rng.uniform(1.2, 1.6), rng.uniform(0.45, 0.65)
    wheel = turned([(0.42, -0.15), (0.42, 0.15)])
    upright = Mesh(wheel.vertices[:, [0, 2, 1]] * [1, -1, 1], wheel.faces)
    corners = [(x, y, -0.3) for x in (-0.6 * long, 0.6 * long) for y in (-0.65, 0.65)]
    body = box((0, 0, 0), (2 * long, 1.3, 0.6))
    roof = box((-0.1, 0, 0.3 + cabin / 2), (long, 1.1, cabin))
    return joined(body, roof, *(upright.moved(corner) for corner in corners))


def _rocket(rng: Generator) -> Mesh:
    long, fin = rng.uniform(1.1, 1.6), rng.uniform(0.6, 0.8)
    body = [(0.45, -long), (0.52, -0.4), (0.5, 0.4), (0.32, 0.4 + 0.4 * long), (0, 0.4 + long)]
    fins = [
        box((0, 0, 0.35 - long), size) for size in ((2.2 * fin, 0.16, 0.7), (0.16, 2.2 * fin, 0.7))
    ]
    return joined(turned(body), *fins)


def _house(rng: Generator) -> Mesh:
    wall, roof = rng.uniform(0.6, 0.9), rng.uniform(0.7, 1.1)
    front = [[-0.9, -wall], [0.9, -wall], [0.9, wall], [0, wall + roof], [-0.9, wall]]
    return prism(np.array(front), rng.uniform(1.4, 2.2))


def _polygon(corners: int) -> FloatArray:
    angle = (np.arange(corners) + 0.5) * 2 * np.pi / corners
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star(points: int, inner: float) -> FloatArray:
    return _polygon(2 * points) * np.where(np.arange(2 * points) % 2, inner, 1.0)[:, None]


def _heart() -> FloatArray:
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)[::-1]
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, y + 2], axis=1) / 17


def _plus(arm: float) -> FloatArray:
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]
    return np.concatenate([corner @ turn.T for turn in turns])


FAMILIES: dict[str, Callable[[Generator], Mesh]] = {
    "ball": lambda rng: turned(_ball(height=rng.uniform(0.95, 1.0))),
    **{name: _turned(profile) for name, profile in PROFILES.items()},
    "ring": lambda rng: ring(1.0, rng.uniform(0.28, 0.42)),
    "box": lambda rng: box((0, 0, 0), (1, rng.uniform(0.6, 1), rng.uniform(0.4, 0.8))),
    "cube": lambda rng: box((0, 0, 0), (1, 1, rng.uniform(0.95, 1))),
    "brick": lambda rng: box((0, 0, 0), (2, rng.uniform(0.8, 1), rng.uniform(0.5, 0.7))),
    "wedge": lambda rng: prism(_polygon(3) * [1.2, rng.uniform(0.7, 1.0)], rng.uniform(0.8, 1.6)),
    "hexagon": lambda rng: prism(_polygon(6), rng.uniform(0.6, 1.6)),
    "star": lambda rng: prism(_star(5, rng.uniform(0.5, 0.6)), rng.uniform(0.4, 0.7)),
    "gear": lambda rng: prism(_star(int(rng.integers(7, 10)), 0.76), rng.uniform(0.4, 0.8)),
    "heart": lambda rng: prism(_heart(), rng.uniform(0.5, 0.9)),
    "plus": lambda rng: prism(_plus(rng.uniform(0.34, 0.46)), rng.uniform(0.5, 0.9)),
    "house": _house,
    "mug": _mug,
    "snowman": _snowman,
    "dumbbell": _dumbbell,
    "table": _table,
    "chair": _chair,
    "stairs": _stairs,
    "toybrick": _toybrick,
    "car": _car,
    "rocket": _rocket,
}


def shape_names() -> tuple[str, ...]:
    """Names of all procedural objects, in a fixed order."""
    return tuple(f"{SHAPE_PREFIX}{f}/{k:02d}" for f in FAMILIES for k in range(VARIANTS))


def shape_mesh(name: str) -> Mesh:
    """The mesh of a name. Raises ``PisaError`` for one that no family has."""
    family, _, number = name.removeprefix(SHAPE_PREFIX).partition("/")
    if family not in FAMILIES or not number.isdigit():
        raise PisaError(f"no procedural object is named {name!r}")
    return FAMILIES[family](default_rng([13, list(FAMILIES).index(family), int(number)]))


def shape_file(name: str) -> Path:
    """An OBJ file of the object, written once per process and removed at its end."""
    path = Path(_folder(os.getpid()).name) / (name.removeprefix(SHAPE_PREFIX).replace("/", "_"))
    path = path.with_suffix(".obj")
    if not path.exists():
        path.write_text(obj_text(shape_mesh(name)), encoding="utf-8")
    return path


@cache
def _folder(pid: int) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="pisa-shapes-")
