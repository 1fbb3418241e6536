"""A scene in motion as the JSON that the renderer process reads.

The description says everything that the picture depends on: mesh files, poses of every frame,
camera, material patterns, HDRI, render settings. The renderer knows no prior and no seed, so it
renders any `Scene` that some code can write down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pisa.errors import PisaError
from pisa.simulation.assets import load_asset
from pisa.simulation.kubric.hdris import Hdri
from pisa.simulation.materials import Pattern, background, object_material
from pisa.simulation.scene import Scene
from pisa.types import Poses

SCHEMA = 1


@dataclass(frozen=True)
class RenderSettings:
    """How Cycles renders; the defaults take a third of stock Kubric's time
    (docs/lab_book/2026-11-25-performance.md).

    ``stock`` leaves everything at Kubric's and Blender's defaults except ``samples``,
    ``denoise`` and ``threads``.
    """

    samples: int = 16  # rays per pixel
    denoise: bool = True
    adaptive: bool = False  # Cycles stops sampling a pixel that looks done
    bounces: int = 4
    threads: int = 1
    stock: bool = False


def describe(
    scene: Scene, poses: Poses, fps_hz: int, hdri: Hdri, settings: RenderSettings
) -> dict[str, Any]:
    """The description of a scene; ``poses`` hold one pose per frame and object.

    Raises ``PisaError`` for clips that are not square.
    """
    camera, num_frames = scene.camera, poses.position_m.shape[0]
    if camera.width != camera.height:
        raise PisaError("Kubric clips are square")
    return {
        "schema": SCHEMA,
        "num_frames": num_frames,
        "fps_hz": fps_hz,
        "camera": asdict(camera),
        "objects": [
            {
                **_mesh(thing.asset),
                "size_m": thing.size_m,
                "position_m": poses.position_m[:, n].tolist(),
                "quaternion": poses.quaternion[:, n].tolist(),
            }
            | {"pattern": _look(thing.asset, thing.material)}
            for n, thing in enumerate(scene.objects)
        ],
        "floor": _pattern(background(scene.background).floor),
        "hdri": {
            "path": str(hdri.path),
            "rotation_rad": hdri.rotation_rad,
            "strength": hdri.strength,
        },
        "shadows": scene.shadows,
        "dome": scene.dome,
        "lights": [asdict(light) for light in scene.lights],
        "render": asdict(settings),
    }


def _mesh(name: str) -> dict[str, Any]:
    asset = load_asset(name)
    return {
        "mesh": str(Path(asset.path).resolve()),
        "center": list(asset.center),
        "extent": asset.extent,
    }


def _look(name: str, material: int) -> dict[str, Any] | None:
    """The object's pattern; None for scanned objects, which bring their own texture."""
    return None if load_asset(name).textured else _pattern(object_material(material))


def _pattern(pattern: Pattern) -> dict[str, Any]:
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in vars(pattern).items()
    }
