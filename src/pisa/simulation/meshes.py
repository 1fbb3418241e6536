"""Triangle meshes put together from turned solids, prisms, boxes and rings; written as OBJ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

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
