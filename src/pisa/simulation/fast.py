"""The fast backend: PyBullet + TinyRenderer clips, a pure function of (prior, seed, split)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pisa.simulation.motions import simulate_drift
from pisa.simulation.physics import Motion, Overlap, simulate_fall
from pisa.simulation.scene import Scene, ScenePrior
from pisa.simulation.tiny_renderer import render
from pisa.types import GRAVITY_M_S2, Clip, PisaError

REDRAWS = 50
REDRAW_STRIDE = 1_000_003  # keeps the seeds of redraws apart from the seeds of other clips


@dataclass(frozen=True)
class FastSimulator:
    """Makes clips of ``num_frames`` at ``fps_hz`` and ``resolution`` squared pixels."""

    prior: ScenePrior
    resolution: int = 64
    num_frames: int = 32
    fps_hz: int = 16

    def make_clip(self, seed: int, split: str, name: str) -> tuple[Clip, dict[str, Any]]:
        """The clip of one seed and what ``clip_info.json`` says beyond the release's fields.

        ``split`` is "train" or "test" (which objects, materials and backgrounds are drawn).
        """
        scene, motion = self._draw(seed, split)
        image = render(scene, motion.poses)
        objects = np.arange(len(scene.objects))[:, None, None, None]
        contact_s = motion.contact_s[-1]
        clip = Clip(
            name=name,
            video=torch.from_numpy(image.rgb).permute(3, 0, 1, 2).float() / 127.5 - 1,
            masks=torch.from_numpy(image.ids[None] == objects),
            fps_hz=float(self.fps_hz),
            caption=f"a video of an object {'dropping' if scene.motion == 'fall' else 'moving'}",
            depth_m=torch.from_numpy(image.depth_m),
            camera=scene.camera,
            poses=motion.poses,
            drop_height_m=None if contact_s is None else 0.5 * GRAVITY_M_S2 * contact_s**2,
        )
        return clip, self._information(scene, motion, seed)

    def _draw(self, seed: int, split: str) -> tuple[Scene, Motion]:
        for attempt in range(REDRAWS):
            scene = self.prior.draw(seed + attempt * REDRAW_STRIDE, split, self.resolution)
            if scene.motion == "drift":
                return scene, simulate_drift(scene, self.num_frames, self.fps_hz)
            try:
                return scene, simulate_fall(scene, self.num_frames, self.fps_hz)
            except Overlap:
                continue  # the pile is too high for this drop: draw the scene again
        raise PisaError(
            f"seed {seed}: the pile reaches the dropping object in {REDRAWS} draws; "
            "make prior.num_pile or the object sizes smaller"
        )

    def _information(self, scene: Scene, motion: Motion, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "split": scene.split,
            "backend": "fast",
            "background": scene.background,
            "objects": [asdict(thing) for thing in scene.objects],
            "drop_heights_m": list(scene.drop_heights_m),
            "contact_s": list(motion.contact_s),
            **({"study": scene.study} if scene.study else {}),
        }
