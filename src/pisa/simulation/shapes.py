"""Procedural things that a person knows at 20 pixels: bottles, mugs, chairs, hearts, cars.

Their names are ``shape:FAMILY/NUMBER``. The number draws the proportions, so that a family holds
many objects that are called by one word. They are triangle meshes put together from turned solids,
prisms, boxes and rings, and written as OBJ.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.sparse import coo_array

from pisa.errors import PisaError

SHAPE_PREFIX = "shape:"
VARIANTS = 20  # objects of a family
SEGMENTS = 20  # of a full turn
CREASE_COS = np.cos(np.radians(50))  # faces that meet at a sharper angle keep their own shading
FloatArray = NDArray[np.floating]
Profile = Sequence[tuple[float | int, float | int]]  # (radius, height), from the bottom to the top


class Mesh(NamedTuple):
    """Vertices ``[V, 3]`` and triangles ``[F, 3]``, counter-clockwise seen from outside."""

    vertices: FloatArray
    faces: NDArray[np.int_]

    def moved(self, offset: Sequence[float | int]) -> Mesh:
        return Mesh(self.vertices + np.asarray(offset), self.faces)


def turned(profile: Profile) -> Mesh:
    """A solid of revolution about the z axis; ends of the profile off the axis are closed."""
    rings = np.array([(0.0, profile[0][1]), *profile, (0.0, profile[-1][1])])
    angle = np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS
    turn = np.stack([np.cos(angle), np.sin(angle), np.ones(SEGMENTS)], axis=1)
    vertices = (rings[:, None, [0, 0, 1]] * turn).reshape(-1, 3)
    return Mesh(vertices, _grid_faces(len(rings) - 1, SEGMENTS))


def ring(radius: float, thickness: float, turn: float = 1.0) -> Mesh:
    """A round bar bent in the xz plane, centred on +x, through ``turn`` of a full circle."""
    u, v = np.meshgrid(
        np.linspace(-np.pi * turn, np.pi * turn, SEGMENTS + 1),
        np.arange(8) * np.pi / 4,
        indexing="ij",
    )
    reach = radius + thickness * np.cos(v)
    vertices = np.stack([reach * np.cos(u), thickness * np.sin(v), reach * np.sin(u)], axis=-1)
    return Mesh(vertices.reshape(-1, 3), _grid_faces(SEGMENTS, 8))


def prism(outline: FloatArray, height: float) -> Mesh:
    """An outline ``[P, 2]``, counter-clockwise and seen whole from the origin, given a height."""
    count = len(outline)
    i, j = np.arange(count), (np.arange(count) + 1) % count
    bottom = np.column_stack([outline, np.full(count, -height / 2)])
    centres = np.array([[0, 0, -height / 2], [0, 0, height / 2]])
    low, high = np.full(count, 2 * count), np.full(count, 2 * count + 1)
    corners = [(j, i, low), (i + count, j + count, high), (i, j, j + count)]
    corners.append((i, j + count, i + count))
    return Mesh(
        np.concatenate([bottom, bottom + np.array([0, 0, height]), centres]),
        np.concatenate([np.stack(corner, axis=1) for corner in corners]),
    )


def box(centre: Sequence[float | int], size: Sequence[float | int]) -> Mesh:
    """A box by its centre and sides."""
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    vertices, faces = prism(square, 1.0)
    return Mesh(vertices * np.asarray(size) + np.asarray(centre), faces)


def joined(*parts: Mesh) -> Mesh:
    """One mesh of several, which may overlap."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + k for part, k in zip(parts, offsets, strict=False)]),
    )


def obj_text(mesh: Mesh) -> str:
    """The mesh as an OBJ file with normals: smooth where faces meet at less than 50 degrees."""
    points, face_of = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    faces = face_of.reshape(-1)[mesh.faces]
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    size = np.linalg.norm(area, axis=1)
    faces, area, size = faces[size > 1e-9], area[size > 1e-9], size[size > 1e-9]
    flat = area / size[:, None]
    normals = _normals(faces, flat, area)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
    for f, (i, j, k) in enumerate(faces + 1):
        lines.append(f"f {i}//{3 * f + 1} {j}//{3 * f + 2} {k}//{3 * f + 3}")
    return "\n".join([*lines, ""])


def _normals(faces: NDArray[np.int_], flat: FloatArray, area: FloatArray) -> FloatArray:
    """Unit normals ``[3 F, 3]`` of the faces' corners, averaged over faces on the same bend."""
    corner, face = np.arange(faces.size), np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(faces.size)
    touches = coo_array((ones, (faces.ravel(), face))).tocsr()  # vertex by face
    pairs = (coo_array((ones, (corner, faces.ravel()))).tocsr() @ touches).tocoo()
    bend = (flat[face[pairs.row]] * flat[pairs.col]).sum(axis=1) > CREASE_COS
    normals = np.zeros((faces.size, 3))
    np.add.at(normals, pairs.row[bend], area[pairs.col[bend]])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _grid_faces(rows: int, columns: int) -> NDArray[np.int_]:
    """Triangles of ``rows`` bands between rings of ``columns`` vertices."""
    k, s = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a, b = k * columns + s, k * columns + (s + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], axis=-1).reshape(-1, 4)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


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
