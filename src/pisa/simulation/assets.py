"""The things that scenes show, with a fixed 90/10 split into train and test objects.

The library ``toys`` holds procedural things (`shapes`) and six meshes of pybullet_data that people
have a word for. The ``random_urdfs`` of pybullet_data are left out: they are boxes and blobs joined
at random, and half of them fill less than 57 % of their convex hull.

The split follows the paper's proportion of GSO objects (930 train, 103 test; section 4.1).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pybullet_data
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from pisa.errors import PisaError
from pisa.simulation.shapes import SHAPE_PREFIX, shape_file, shape_names

PAINTED_MESHES = ("duck.obj", "soccerball.obj", "torus/torus_textured.obj")  # have a texture
PLAIN_MESHES = ("teddy2_VHACD_CHs.obj", "objects/mug.obj", "bunny.obj")
TEST_EVERY = 10
LIBRARIES = ("toys", "gso", "household")
GSO_FOLDER = "PISA_GSO_DIR"  # environment variable: the folder of unpacked GSO bundles
# Of libraries of textured scans: the environment variable with their folder, and where meshes lie.
SCANS = {
    "gso": (GSO_FOLDER, "*/visual_geometry.obj"),
    "household": ("PISA_HOUSEHOLD_DIR", "stable_*/*/*.obj"),
}
TEST_FRACTION = 0.1
LICENCES = {
    "toys": "procedural; six meshes of pybullet_data (Bullet Physics SDK, zlib licence)",
    "gso": "Google Scanned Objects (Google Research), CC BY 4.0",
    "household": "distributed with LIBERO; stable_hope_objects: HOPE (NVIDIA), CC BY-NC-SA 4.0; "
    "stable_scanned_objects: Google Scanned Objects, CC BY 4.0",
}


@dataclass(frozen=True)
class Asset:
    """A triangle mesh; ``center`` and ``extent`` are of its bounding box, in mesh units.

    ``hull`` holds the vertices ``[V, 3]`` of the convex hull, relative to the centre and
    divided by the extent.
    """

    name: str
    path: Path
    center: tuple[float, float, float]
    extent: float
    hull: NDArray[np.floating]
    textured: bool = False  # brings its own picture; else a procedural material is used


@cache
def asset_names(split: str, library: str = "toys") -> tuple[str, ...]:
    """Names of the objects of a library in ``split`` ("train" or "test"), in a fixed order.

    Raises ``ValueError`` for another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    if library in SCANS:
        return kubric_split(tuple(_scans(library)))[split == "test"]
    names = (*shape_names(), *PAINTED_MESHES, *PLAIN_MESHES)
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    test = set(ordered[::TEST_EVERY])
    return tuple(name for name in ordered if (name in test) == (split == "test"))


def kubric_split(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Train and test names as Kubric's `AssetSource.get_test_split` divides them.

    1033 scanned objects give 930 / 103 and 509 HDRIs 458 / 51: the paper's numbers.
    """
    ordered = sorted(names)
    size = max(1, round(len(ordered) * TEST_FRACTION))
    test = set(np.random.default_rng(42).choice(ordered, size=size, replace=False).tolist())
    return tuple(n for n in ordered if n not in test), tuple(n for n in ordered if n in test)


@cache
def load_asset(name: str) -> Asset:
    """Bounding box and convex hull of a mesh from its vertex lines.

    Raises ``PisaError`` for a mesh that is absent, broken or flat.
    """
    library = name.partition(":")[0]
    if library in SCANS:
        mesh = _scans(library).get(name)
        if mesh is None:
            raise PisaError(f"the folder of {SCANS[library][0]} has no object {name}")
        return _read_mesh(name, mesh, textured=True)
    if name.startswith(SHAPE_PREFIX):
        return _read_mesh(name, shape_file(name), textured=False)
    path = Path(pybullet_data.getDataPath()) / name
    return _read_mesh(name, path, textured=name in PAINTED_MESHES)


def _read_mesh(name: str, path: Path, textured: bool) -> Asset:
    try:
        lines = _vertex_lines(path)
        vertices = np.array([line.split()[1:4] for line in lines], float)
        if len(vertices) < 4 or not np.isfinite(vertices).all():
            raise ValueError("it needs at least four finite vertices")
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        center, extent = (low + high) / 2, float((high - low).max())
        hull = (vertices[ConvexHull(vertices).vertices] - center) / extent
    except OSError as error:
        raise PisaError(f"mesh {path}: cannot read: {error.strerror}") from error
    except QhullError as error:
        raise PisaError(f"mesh {path}: is broken: it has no volume") from error
    except ValueError as error:
        raise PisaError(f"mesh {path}: is broken: {error}") from error
    return Asset(name, path, (center[0], center[1], center[2]), extent, hull, textured)


@cache
def _scans(library: str) -> dict[str, Path]:
    """Meshes of a library of scans, by name.

    Of household objects those of one mesh with a picture are taken, and of several with the same
    vertices the first: no test object is a recoloured training object.
    """
    variable, pattern = SCANS[library]
    folder = os.environ.get(variable)
    if not folder:
        raise PisaError(
            f"prior.assets={library} needs the scanned objects: set {variable} to their folder, or "
            "use prior.assets=toys"
        )
    meshes = sorted(Path(folder).glob(pattern), key=lambda p: (len(p.parent.name), str(p)))
    if library == "household":
        visible = [m for m in meshes if not m.stem.endswith(("_col", "_coll"))]
        single = Counter(m.parent for m in visible)
        textured = [m for m in visible if single[m.parent] == 1 and _has_picture(m)]
        different = {_vertex_lines(m): m for m in reversed(textured)}
        meshes = list(different.values())
    if len(meshes) < 2:
        raise PisaError(f"{folder}: holds fewer than two objects ({pattern})")
    return {f"{library}:{mesh.parent.name}": mesh for mesh in meshes}


def _vertex_lines(mesh: Path) -> tuple[str, ...]:
    lines = mesh.read_text(errors="replace").splitlines()
    return tuple(line for line in lines if line.startswith("v "))


def _has_picture(mesh: Path) -> bool:
    material = mesh.with_suffix(".mtl")
    return material.is_file() and "map_Kd" in material.read_text(errors="replace")


def lowest_point_m(name: str, size_m: float, quaternion: tuple[float, ...]) -> float:
    """Height of the rotated mesh's lowest vertex relative to its centre (negative), in metres."""
    rotated = Rotation.from_quat(quaternion).apply(load_asset(name).hull)
    return float(rotated[:, 2].min()) * size_m
