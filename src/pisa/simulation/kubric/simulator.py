"""The Kubric backend: the fast backend's physical scenes, rendered by Blender's Cycles."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch

from pisa.errors import PisaError
from pisa.simulation.assets import LICENCES
from pisa.simulation.fast import (
    build_clip,
    draw_moving_scene,
    library_versions,
    scene_information,
)
from pisa.simulation.kubric.description import RenderSettings, describe
from pisa.simulation.kubric.hdris import LICENCE, NO_ENVIRONMENT, choose_hdri, packaged_folder
from pisa.simulation.kubric.process import Renderer
from pisa.simulation.materials import LOOK
from pisa.simulation.physics import Motion
from pisa.simulation.scene import Scene, ScenePrior
from pisa.types import Clip

OUTSIDE_DIGEST = {"digest": False}  # does not change the clips
POSE_TOLERANCE_M = 1e-3


@dataclass(frozen=True)
class KubricSimulator:
    """Makes clips of ``num_frames`` at ``fps_hz`` and ``resolution`` squared pixels.

    ``python`` is the interpreter of the renderer's environment (`make kubric-env`), relative to
    the current folder. ``hdri_dir`` None takes the HDRIs that come with Blender.
    """

    min_clips_for_workers: ClassVar[int] = 2
    prior: ScenePrior
    resolution: int = 256
    num_frames: int = 32
    fps_hz: int = 16
    settings: RenderSettings = field(default_factory=RenderSettings)
    hdri_dir: str | None = None
    python: str = field(default=".venv-kubric/bin/python", metadata=OUTSIDE_DIGEST)
    timeout_s: float = field(default=1800.0, metadata=OUTSIDE_DIGEST)  # for one clip
    backend: str = "kubric"
    look: int = field(default=LOOK, init=False)  # names the data set

    def make_clip(self, seed: int, split: str, name: str) -> tuple[Clip, dict[str, Any]]:
        """The clip of one seed: the same scene and motion as `FastSimulator`'s of that seed."""
        scene, motion = draw_moving_scene(
            self.prior, seed, split, self.resolution, self.num_frames, self.fps_hz
        )
        clip = self.clip_of(scene, motion, name)
        hdri = choose_hdri(self._hdri_folder(), scene.background, split)
        extra = scene_information(scene, motion, seed, "kubric")
        return clip, extra | {"hdri": hdri.path.name, "hdri_rotation_rad": hdri.rotation_rad}

    def clip_of(self, scene: Scene, motion: Motion, name: str) -> Clip:
        """Render any scene in motion, with depth, flow and the poses Blender had.

        Raises ``PisaError`` for a scene that cannot be rendered.
        """
        hdri = choose_hdri(self._hdri_folder(), scene.background, scene.split)
        arrays = self._renderer().render(
            describe(scene, motion.poses, self.fps_hz, hdri, self.settings)
        )
        off_m = abs(torch.from_numpy(arrays["position_m"]) - motion.poses.position_m).max()
        if off_m > POSE_TOLERANCE_M:
            raise PisaError(f"Blender had an object {off_m:.3f} m off its trajectory in {name}")
        depth = torch.from_numpy(arrays["depth_m"])
        clip = build_clip(scene, motion, name, self.fps_hz, arrays["rgb"], arrays["ids"], depth)
        return replace(
            clip,
            flow_px=torch.from_numpy(arrays["forward_px"]).transpose(0, 1),
            backward_flow_px=torch.from_numpy(arrays["backward_px"]).transpose(0, 1),
        )

    def check(self) -> None:
        """Raises ``PisaError`` where there is no renderer."""
        if not Path(self.python).is_file():
            raise PisaError(
                f"these clips are rendered by Kubric, whose environment is not at {self.python}: "
                f"{NO_ENVIRONMENT}"
            )

    def versions(self) -> dict[str, str]:
        """Library versions of both environments."""
        renderer = self._renderer()
        if not renderer.versions:
            renderer.start()
        return library_versions() | {f"renderer/{k}": v for k, v in renderer.versions.items()}

    def licences(self) -> dict[str, str]:
        """Licences of the assets that the clips show."""
        return {"objects": LICENCES[self.prior.assets], "hdris": LICENCE, "floor": "procedural"}

    def _renderer(self) -> Renderer:
        return _renderer(Path(self.python), self.timeout_s, os.getpid())

    def _hdri_folder(self) -> Path:
        return Path(self.hdri_dir) if self.hdri_dir else packaged_folder(Path(self.python))


@cache
def _renderer(python: Path, timeout_s: float, pid: int) -> Renderer:
    return Renderer(python, timeout_s)
