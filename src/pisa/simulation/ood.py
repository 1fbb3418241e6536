"""Single drops over a grid of depths and heights (paper section 5.1, Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.random import default_rng

from pisa.errors import PisaError
from pisa.ranges import Positive, PositiveInterval
from pisa.simulation.materials import identity
from pisa.simulation.scene import Prior, Scene, draw_object, lift, object_in_view, sized_for
from pisa.types import Camera

MAX_DRAWS = 1000


@dataclass(frozen=True)
class OodPrior:
    """Depth and height drawn uniformly; pairs outside the camera's view are discarded.

    A clip is in distribution if both lie in the ranges of the training set. ``scene`` gives object
    sizes, lens and materials. ``depth_m`` is that of the object's centre along the view axis,
    ``height_m`` that of its lowest point above the floor.
    """

    scene: Prior
    depth_m: PositiveInterval = (1.0, 5.0)
    height_m: PositiveInterval = (0.5, 2.5)
    camera_height_m: Positive = 0.5
    trained_depth_m: PositiveInterval = (1.0, 3.0)
    trained_height_m: PositiveInterval = (0.5, 1.5)

    @classmethod
    def of(cls, **values: Any) -> OodPrior:
        """A prior from configuration values, where a range is any sequence of two numbers."""
        ranges = ("depth_m", "height_m", "trained_depth_m", "trained_height_m")
        plain: dict[str, Any] = {k: tuple(v) if k in ranges else v for k, v in values.items()}
        return cls(**plain)

    @property
    def assets(self) -> str:
        return self.scene.assets

    def draw(self, seed: int, split: str, resolution: int) -> Scene:
        """The scene of one seed. Raises ``PisaError`` when no pair is in view."""
        rng = default_rng([10, seed])
        camera = Camera(
            (0.0, -1.0, self.camera_height_m),
            resolution,
            resolution,
            self.scene.focal_mm,
            self.scene.sensor_mm,
        )
        for _ in range(MAX_DRAWS):
            depth_m, height_m = rng.uniform(*self.depth_m), rng.uniform(*self.height_m)
            half_m = depth_m * camera.sensor_mm / camera.focal_mm / 2
            place = (rng.uniform(-half_m, half_m), camera.position_m[1] + depth_m, height_m)
            drawn = draw_object(rng, self.scene, split, place, dropping=True)
            thing = lift(sized_for(self.scene, drawn, drawn.size_m, camera), height_m)
            if object_in_view(thing, camera) and object_in_view(lift(thing, 0.0), camera):
                return Scene(
                    seed=seed,
                    split=split,
                    objects=(thing,),
                    drop_heights_m=(height_m,),
                    camera=camera,
                    background=identity(rng, split),
                    shadows=self.scene.shadows,
                    step_hz=self.scene.step_hz,
                    density_kg_m3=self.scene.density_kg_m3,
                    physics=self.scene.physics,
                    study=self._study(depth_m, height_m),
                )
        raise PisaError(f"no drop in {MAX_DRAWS} draws is in view; make prior.height_m smaller")

    def _study(self, depth_m: float, height_m: float) -> dict[str, Any]:
        inside = _within(depth_m, self.trained_depth_m) and _within(height_m, self.trained_height_m)
        return {
            "kind": "ood",
            "depth_m": depth_m,
            "height_m": height_m,
            "in_distribution": inside,
        }


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
