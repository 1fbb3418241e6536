"""Procedural object materials and backgrounds, each a pure function of an integer identity.

Identities below ``NUM_TRAIN`` are seen in training, the next ``NUM_TEST`` are held out (the
paper splits HDRI backgrounds 458 / 51 in the same way).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

LOOK = 3  # of objects, materials, backgrounds and light; a change of any makes other data sets
NUM_TRAIN = 900
NUM_TEST = 100
NUM_HUES = 10  # main colours of objects
FloatArray = NDArray[np.floating]


def identity(rng: Generator, split: str) -> int:
    """Draw a material or background identity of a split."""
    return int(rng.integers(NUM_TRAIN) if split == "train" else NUM_TRAIN + rng.integers(NUM_TEST))


@dataclass(frozen=True)
class Pattern:
    """Two colours mixed by a solid pattern: a wave field along ``direction`` plus value noise."""

    colour_a: FloatArray  # [3] in [0, 1]
    colour_b: FloatArray
    direction: FloatArray  # [3], cycles per unit length
    sharpness: float
    checker: bool
    noise: float
    phase: float

    def __call__(self, points: FloatArray) -> FloatArray:
        """Albedo ``[..., 3]`` at points ``[..., 3]``."""
        wave = np.sin(2 * np.pi * (points @ self.direction) + self.phase)
        if self.checker:
            other = np.roll(self.direction, 1) * np.array([1.0, -1.0, 1.0])
            wave = wave * np.sin(2 * np.pi * (points @ other) + self.phase)
        ripple = np.sin(points @ (9.7 * self.direction[::-1]) + 3 * wave + self.phase)
        mix = 0.5 + 0.5 * np.tanh(self.sharpness * (wave + self.noise * ripple))
        return self.colour_a + mix[..., None] * (self.colour_b - self.colour_a)


def _hsv(hue: float, saturation: float, value: float) -> FloatArray:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def object_material(number: int) -> Pattern:
    """The material of one identity: plain, striped or checked, in vivid colours.

    Lengths are in units of the object's size.
    """
    rng = default_rng([21, number])
    hue = (rng.integers(NUM_HUES) + rng.uniform(-0.25, 0.25)) / NUM_HUES
    colour = _hsv(hue, rng.uniform(0.75, 1.0), rng.uniform(0.9, 1.0))
    kind = rng.choice(["plain", "striped", "checked"], p=[0.4, 0.4, 0.2])
    # The second colour has the same hue: white would vanish before a pale wall, and another hue
    # would be taken for another object.
    paler, darker = _hsv(hue, 0.4, 1.0), _hsv(hue, 0.9, 0.5)
    other = colour if kind == "plain" else (paler, darker)[int(rng.integers(2))]
    direction = rng.normal(size=3)
    return Pattern(
        colour_a=colour,
        colour_b=other,
        direction=direction / np.linalg.norm(direction) * rng.uniform(0.7, 1.3),
        sharpness=8.0,
        checker=bool(kind == "checked"),
        noise=0.0,
        phase=rng.uniform(0, 2 * np.pi),
    )


@dataclass(frozen=True)
class Background:
    """Floor, back wall and light of one scene; stands in for an HDRI."""

    floor: Pattern
    wall: Pattern
    wall_distance_m: float
    light_direction: FloatArray  # [3], from the scene to the light
    ambient: float
    shadow: float


def background(number: int) -> Background:
    """The background of one identity: pale, so that objects stand out; lengths are in metres.

    Floors are plain, planked or tiled, walls plain or striped. The light stands before the wall
    and above the objects, on the viewer's side.
    """
    rng = default_rng([22, number])
    angle, elevation = rng.uniform(np.pi * 1.1, np.pi * 1.9), rng.uniform(0.75, 1.15)
    light = [
        np.cos(angle) * np.cos(elevation),
        np.sin(angle) * np.cos(elevation),
        np.sin(elevation),
    ]
    hue = rng.uniform()
    tile, plank = rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.6)
    floor = [(0.0, 0.0, 0.0), (plank, 0.0, 0.0), (tile, 0.0, 0.0)][kind := int(rng.integers(3))]
    wall = [(0.0, 0.0, 0.0), (rng.uniform(0.5, 1.0), 0.0, 0.0)][int(rng.integers(2))]
    return Background(
        floor=_surface(rng, hue, (0.6, 0.95), floor, checker=kind == 2),
        wall=_surface(rng, hue + rng.uniform(0.2, 0.8), (0.8, 1.0), wall, checker=False),
        wall_distance_m=rng.uniform(5.0, 8.0),
        light_direction=np.array(light),
        ambient=rng.uniform(0.6, 0.7),
        shadow=rng.uniform(0.35, 0.6),
    )


def _surface(
    rng: Generator, hue: float, value: tuple[float, float], direction, *, checker: bool
) -> Pattern:
    colour = _hsv(hue, rng.uniform(0.02, 0.22), rng.uniform(*value))
    return Pattern(
        colour_a=colour,
        colour_b=colour * rng.uniform(0.84, 0.94),
        direction=np.array(direction),
        sharpness=6.0,
        checker=checker,
        noise=0.0,
        phase=rng.uniform(0, 2 * np.pi),
    )
