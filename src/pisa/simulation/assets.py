"""Meshes that ship with pybullet, with a fixed 90/10 split into train and test objects.

The split follows the paper's proportion of GSO objects (930 train, 103 test; section 4.1).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pybullet_data
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

EXTRA_MESHES = ("duck.obj", "teddy2_VHACD_CHs.obj", "objects/mug.obj", "lego/lego.obj")
BROKEN = frozenset({168})  # random_urdfs/168 has NaN vertices
TEST_EVERY = 10


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


@cache
def asset_names(split: str) -> tuple[str, ...]:
    """Names of the objects in ``split`` ("train" or "test"), in a fixed order."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    names = [f"random_urdfs/{i:03d}/{i:03d}.obj" for i in range(1000) if i not in BROKEN] + list(
        EXTRA_MESHES
    )
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    test = set(ordered[::TEST_EVERY])
    return tuple(name for name in ordered if (name in test) == (split == "test"))


@cache
def load_asset(name: str) -> Asset:
    """Bounding box of a mesh from its vertex lines."""
    path = Path(pybullet_data.getDataPath()) / name
    lines = path.read_text(errors="replace").splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    center = (low + high) / 2
    extent = float((high - low).max())
    hull = (vertices[ConvexHull(vertices).vertices] - center) / extent
    return Asset(name, path, (center[0], center[1], center[2]), extent, hull)


def lowest_point_m(name: str, size_m: float, quaternion: tuple[float, ...]) -> float:
    """Height of the rotated mesh's lowest vertex relative to its centre (negative), in metres."""
    rotated = Rotation.from_quat(quaternion).apply(load_asset(name).hull)
    return float(rotated[:, 2].min()) * size_m
