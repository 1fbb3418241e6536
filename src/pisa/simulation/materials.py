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

NUM_TRAIN = 900
NUM_TEST = 100
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


def _colour(rng: Generator, saturation: tuple[float, float], value: tuple[float, float]):
    hue = rng.uniform()
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value)))


def _direction(rng: Generator, frequency: tuple[float, float]) -> FloatArray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector) * rng.uniform(*frequency)


def object_material(number: int) -> Pattern:
    """The material of one identity; lengths are in units of the object's size."""
    rng = default_rng([11, number])
    colour = _colour(rng, (0.5, 1.0), (0.65, 1.0))
    other = np.clip(colour * rng.uniform(0.35, 0.8) + rng.uniform(-0.1, 0.3, size=3), 0, 1)
    return Pattern(
        colour_a=colour,
        colour_b=other,
        direction=_direction(rng, (0.4, 1.6)),
        sharpness=rng.uniform(1.0, 6.0),
        checker=bool(rng.uniform() < 0.3),
        noise=rng.uniform(0.0, 0.4),
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
    """The background of one identity; pattern lengths are in metres."""
    rng = default_rng([12, number])
    angle, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.3)
    light = [
        np.cos(angle) * np.cos(elevation),
        np.sin(angle) * np.cos(elevation),
        np.sin(elevation),
    ]
    return Background(
        floor=_surface(rng),
        wall=_surface(rng),
        wall_distance_m=rng.uniform(5.0, 8.0),
        light_direction=np.array(light),
        ambient=rng.uniform(0.55, 0.7),
        shadow=rng.uniform(0.2, 0.45),
    )


def _surface(rng: Generator) -> Pattern:
    colour = _colour(rng, (0.02, 0.35), (0.45, 0.95))
    other = np.clip(colour * rng.uniform(0.7, 0.95), 0, 1)
    return Pattern(
        colour_a=colour,
        colour_b=other,
        direction=_direction(rng, (0.15, 0.9)),
        sharpness=rng.uniform(0.5, 3.0),
        checker=bool(rng.uniform() < 0.3),
        noise=rng.uniform(0.0, 0.5),
        phase=rng.uniform(0, 2 * np.pi),
    )
