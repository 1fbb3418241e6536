"""The fast backend: PyBullet + TinyRenderer clips, a pure function of (prior, seed, split)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pisa.errors import PisaError
from pisa.ranges import Count, FrameCount, PixelCount
from pisa.simulation.assets import LICENCES
from pisa.simulation.materials import LOOK
from pisa.simulation.physics import Motion, Overlap, simulate_drift, simulate_fall
from pisa.simulation.release import settled
from pisa.simulation.scene import Physics, Scene, ScenePrior
from pisa.simulation.tiny_renderer import render
from pisa.types import Clip

REDRAWS = 50
REDRAW_STRIDE = 1_000_003  # keeps the seeds of redraws apart from the seeds of other clips


@dataclass(frozen=True)
class FastSimulator:
    """Makes clips of ``num_frames`` at ``fps_hz`` and ``resolution`` squared pixels."""

    min_clips_for_workers: ClassVar[int] = 100  # a worker starts in the time of so few clips
    prior: ScenePrior
    resolution: PixelCount = 64
    num_frames: FrameCount = 32
    fps_hz: Count = 16
    samples: Count = 2  # per pixel and axis; 1 has jagged edges
    look: int = field(default=LOOK, init=False)  # names the data set

    def make_clip(self, seed: int, split: str, name: str) -> tuple[Clip, dict[str, Any]]:
        """The clip of one seed and what ``clip_info.json`` says beyond the release's fields.

        ``split`` is "train" or "test" (which objects, materials and backgrounds are drawn).
        """
        scene, motion = draw_moving_scene(
            self.prior, seed, split, self.resolution, self.num_frames, self.fps_hz
        )
        return self.clip_of(scene, motion, name), scene_information(scene, motion, seed, "fast")

    def clip_of(self, scene: Scene, motion: Motion, name: str) -> Clip:
        """Render any scene in motion."""
        image = render(scene, motion.poses, samples=self.samples)
        return build_clip(
            scene, motion, name, self.fps_hz, image.rgb, image.ids, torch.from_numpy(image.depth_m)
        )

    def check(self) -> None:
        """PyBullet is part of the environment: there is nothing that could be missing."""

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that the clips' bytes depend on."""
        return library_versions()

    def licences(self) -> dict[str, str]:
        """Licences of the assets that the clips show."""
        return {"objects": LICENCES[self.prior.assets], "backgrounds": "procedural"}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that draw scenes, move them and write the clips."""
    libraries = {name: version(name) for name in ("pybullet", "numpy", "pillow")}
    return libraries | {"look": str(LOOK)}


def draw_moving_scene(
    prior: ScenePrior, seed: int, split: str, resolution: int, num_frames: int, fps_hz: int
) -> tuple[Scene, Motion]:
    """The physical scene of one seed: both backends render this one.

    Raises ``PisaError`` where no draw leaves room for the drop.
    """
    for attempt in range(REDRAWS):
        scene = prior.draw(seed + attempt * REDRAW_STRIDE, split, resolution)
        if scene.motion == "drift":
            return scene, simulate_drift(scene, num_frames, fps_hz)
        try:
            motion = simulate_fall(scene, num_frames, fps_hz)
            placed = scene if scene.camera_step_std_m is None else settled(scene, motion)
            return placed, motion
        except Overlap:
            continue  # the pile is too high for this drop: draw the scene again
    raise PisaError(
        f"seed {seed}: the pile reaches the dropping object in {REDRAWS} draws; "
        "make prior.num_pile or the object sizes smaller"
    )


def build_clip(
    scene: Scene,
    motion: Motion,
    name: str,
    fps_hz: int,
    rgb: NDArray[np.uint8],
    ids: NDArray[Any],
    depth_m: torch.Tensor,
) -> Clip:
    """A clip from uint8 ``[T, H, W, 3]``, object numbers ``[T, H, W]`` (-1: none) and depth."""
    objects = np.arange(len(scene.objects))[:, None, None, None]
    contact_s, gravity_m_s2 = motion.contact_s[-1], scene.physics.gravity_m_s2
    return Clip(
        name=name,
        video=torch.from_numpy(rgb).permute(3, 0, 1, 2).float() / 127.5 - 1,
        masks=torch.from_numpy(ids[None] == objects),
        fps_hz=float(fps_hz),
        caption=f"a video of an object {'dropping' if scene.motion == 'fall' else 'moving'}",
        depth_m=depth_m,
        camera=scene.camera,
        poses=motion.poses,
        drop_height_m=None if contact_s is None else 0.5 * gravity_m_s2 * contact_s**2,
    )


def scene_information(scene: Scene, motion: Motion, seed: int, backend: str) -> dict[str, Any]:
    """The entries of ``clip_info.json`` for a simulated scene."""
    return {
        "seed": seed,
        "split": scene.split,
        "backend": backend,
        "background": scene.background,
        "objects": [asdict(thing) for thing in scene.objects],
        "drop_heights_m": list(scene.drop_heights_m),
        "contact_s": list(motion.contact_s),
        **({"study": scene.study} if scene.study else {}),
        **({"physics": asdict(scene.physics)} if scene.physics != Physics() else {}),
        **({"lights": [asdict(light) for light in scene.lights]} if scene.lights else {}),
    }
