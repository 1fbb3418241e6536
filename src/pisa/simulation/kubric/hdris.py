"""HDRI environments: which picture of the sky lights a scene (paper Appendix K: 458 / 51).

With a folder of HDRI Haven pictures (fetched by hand) the split is Kubric's own, which gives the
paper's 458 / 51 for its 509 pictures. Without one, the eight CC0 pictures that come with Blender
stand in (7 / 1), each turned by an angle that the background's number decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from pisa.errors import PisaError
from pisa.simulation.assets import kubric_split

SUFFIXES = (".exr", ".hdr")
PACKAGED = "bpy/*/datafiles/studiolights/world"
NO_ENVIRONMENT = (
    "run `make kubric-env`, or use clips that are there (psft.train=FOLDER; `pisa fetch psft` has "
    "the authors'), or simulation=fast, which renders with TinyRenderer instead"
)
LICENCE = "CC0 (Poly Haven; the packaged ones are by Greg Zaal)"


@dataclass(frozen=True)
class Hdri:
    """An equirectangular picture, how far it is turned about the vertical, and its strength."""

    path: Path
    rotation_rad: float
    strength: float


def choose_hdri(folder: Path, number: int, split: str) -> Hdri:
    """The environment of one background identity of a split."""
    names = hdri_names(folder)
    train, test = kubric_split(names)
    chosen = train if split == "train" else test
    rng = np.random.default_rng([13, number])
    return Hdri(
        path=folder / chosen[number % len(chosen)],
        rotation_rad=float(rng.uniform(0, 2 * np.pi)),
        strength=float(rng.uniform(0.8, 1.2)),
    )


@cache
def hdri_names(folder: Path) -> tuple[str, ...]:
    """Paths of the pictures below a folder, in a fixed order. Raises when there are under two."""
    found = sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES
    )
    if len(found) < 2:
        raise PisaError(
            f"{folder}: needs at least two HDRI pictures (.exr, .hdr), has {len(found)}; "
            "simulation.backend.hdri_dir=null takes those that come with Blender"
        )
    return tuple(found)


def packaged_folder(python: Path) -> Path:
    """Where Blender keeps its own pictures in the renderer's environment.

    Raises ``PisaError`` where there is no such environment.
    """
    found = sorted(python.parent.parent.glob(f"lib/python3*/site-packages/{PACKAGED}"))
    if not found:
        raise PisaError(f"no Blender beside {python}: {NO_ENVIRONMENT}")
    return found[0]
