"""The benchmark at a model's size: frames, masks and points (paper Appendix I).

``pisa convert data/real data/real_256 --size 256 256`` rescales;
``--size 576 1024 --pad`` keeps the aspect ratio and pads with black, for models that cannot make
square videos. Their videos are scored as they come: eval.py removes the borders again. Depth and
poses are not carried over.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from pisa.data.clip_info import parse_points, read_info, scale_points, shift_points
from pisa.data.clip_io import write_npz
from pisa.data.image_files import frame_paths, read_image
from pisa.data.manifest import list_clips
from pisa.data.mask_files import read_masks, resize_masks
from pisa.errors import PisaError
from pisa.io.files import replace_folder

MAX_PIXELS = 36_000_000


@dataclass(frozen=True)
class Placement:
    """Where a picture of ``old`` size lies in a frame of ``new`` size; all (height, width)."""

    old: tuple[int, int]
    new: tuple[int, int]
    inner: tuple[int, int]
    top: int = 0
    left: int = 0

    def frame(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "i j 3"]:
        """Bicubic and antialiased, as all readers here rescale; black outside."""
        picture = Image.fromarray(frame).resize((self.inner[1], self.inner[0]))
        whole = np.zeros((*self.new, 3), dtype=np.uint8)
        whole[self._rows, self._columns] = np.asarray(picture)
        return whole

    def masks(self, masks: Bool[np.ndarray, "t n h w"]) -> Bool[np.ndarray, "t n i j"]:
        """Nearest pixel; nothing outside."""
        whole = np.zeros((*masks.shape[:2], *self.new), dtype=bool)
        whole[..., self._rows, self._columns] = resize_masks(masks, *self.inner)
        return whole

    def info(self, info: dict[str, Any], folder: Path) -> dict[str, Any]:
        """``clip_info.json`` with points (and a camera) that fit the new frames."""
        changed = dict(info)
        if info.get("points"):
            objects = scale_points(parse_points(info, folder), self.old, self.inner)
            changed["points"] = [
                {"positive": list(o.positive), "negative": list(o.negative)}
                for o in shift_points(objects, self.left, self.top)
            ]
        if camera := changed.pop("camera", None):
            changed |= self._camera(camera)
        return changed

    @property
    def _rows(self) -> slice:
        return slice(self.top, self.top + self.inner[0])

    @property
    def _columns(self) -> slice:
        return slice(self.left, self.left + self.inner[1])

    def _camera(self, camera: dict[str, Any]) -> dict[str, Any]:
        """The camera of the wider frame; none where the picture is stretched."""
        if abs(self.inner[0] * self.old[1] - self.inner[1] * self.old[0]) > max(self.old):
            return {}
        sensor_mm = camera["sensor_mm"] * self.new[1] / self.inner[1]
        height, width = self.new
        return {"camera": {**camera, "height": height, "width": width, "sensor_mm": sensor_mm}}


def place(old: tuple[int, int], new: tuple[int, int], pad: bool) -> Placement:
    """Stretched over the whole frame, or with ``pad`` centred with its aspect ratio kept."""
    if not pad:
        return Placement(old, new, new)
    scale = min(new[0] / old[0], new[1] / old[1])
    inner = (max(1, round(old[0] * scale)), max(1, round(old[1] * scale)))
    return Placement(old, new, inner, (new[0] - inner[0]) // 2, (new[1] - inner[1]) // 2)


def convert_clip(source: Path, target: Path, size: tuple[int, int], pad: bool = False) -> None:
    """Write a clip folder at another size; it appears complete or not at all.

    Masks are converted where there are any. Raises ``PisaError`` naming what is broken.
    """
    info, paths = read_info(source), frame_paths(source)
    first = read_image(paths[0], MAX_PIXELS)
    placement = place((first.shape[0], first.shape[1]), size, pad)
    with replace_folder(target) as part:
        for path in paths:
            frame = read_image(path, MAX_PIXELS)
            if frame.shape != first.shape:
                raise PisaError(f"{path}: differs in size from {paths[0].name}")
            options: dict[str, Any] = {"quality": 95, "subsampling": 0}
            image = Image.fromarray(placement.frame(frame))
            image.save(part / path.name, **(options if path.suffix != ".png" else {}))
        if (source / "mask.npz").is_file() or (source / "mask.npy").is_file():
            masks = read_masks(source)
            if masks.shape[2:] != placement.old:
                raise PisaError(f"{source}: masks and frames differ in size")
            write_npz(part / "mask.npz", {"mask": placement.masks(masks)})
        text = json.dumps(placement.info(info, source), indent=1)
        (part / "clip_info.json").write_text(text, encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="folder of clip folders")
    parser.add_argument("target", type=Path, help="new folder; clips that are there are kept")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pad", action="store_true", help="black borders instead of stretching")


def main(given: argparse.Namespace) -> None:
    """Convert every clip that is not in the target yet."""
    if min(given.size) < 8 or given.size[0] * given.size[1] > MAX_PIXELS:
        raise PisaError("--size must be at least 8 px and at most 36 million pixels")
    clips = list_clips(given.source)
    for clip in clips:
        if not (given.target / clip.name).is_dir():
            convert_clip(clip, given.target / clip.name, tuple(given.size), given.pad)
    print(f"{len(clips)} clips in {given.target}")
