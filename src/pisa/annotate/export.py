"""A finished clip as a folder of the release's layout (docs/data_format.md)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from pisa.annotate.mask_file import write_mask_file
from pisa.annotate.project import ClipDraft
from pisa.annotate.recording import FPS_HZ
from pisa.annotate.tracking import object_points
from pisa.data.clip_files import frame_paths
from pisa.data.clip_info import SCHEMA, read_info
from pisa.data.clip_io import appear_at_once
from pisa.ops.masks import dropping_object_index
from pisa.types import PisaError

KEY = "annotate"  # of clip_info.json: where the clip comes from; readers ignore it


def export_clip(
    clip: ClipDraft,
    frames: Path,
    masks: Bool[np.ndarray, "t n i j"],
    folder: Path,
    extra: Mapping[str, Any],
) -> Path:
    """Write the clip to ``folder``: ``00000.jpg ...``, ``mask.npz`` and ``clip_info.json``.

    An older folder of this clip is replaced. Raises ``PisaError`` for a folder that something else
    made, and for a clip without a description.
    """
    if not clip.description.strip():
        raise PisaError(f"{clip.name} has no description; its caption is '{{description}} falls.'")
    _refuse_foreign(folder)
    paths = frame_paths(frames)
    if len(paths) != len(masks):
        raise PisaError(f"{clip.name}: {len(paths)} frames, but {len(masks)} masks; track it again")
    with Image.open(paths[0]) as first:
        side = first.height
    info = clip_info(clip, side, extra)
    with appear_at_once(folder) as part:
        for path in paths:
            shutil.copyfile(path, part / path.name)
        write_mask_file(part / "mask.npz", masks, (side, side))
        (part / "clip_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
    return folder


def clip_info(clip: ClipDraft, side_px: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """``clip_info.json``; points are those of the first frame, in pixels of the clip's frames."""
    points = [object_points(entry, 0, clip.crop, side_px) for entry in clip.objects]
    listed = [
        {"positive": [list(p) for p in o.positive], "negative": [list(p) for p in o.negative]}
        for o in points
    ]
    info: dict[str, Any] = {
        "schema": SCHEMA,
        "fps": FPS_HZ,
        "caption": clip.caption,
        "num_frames": clip.num_frames,
        "num_objects": len(clip.objects),
        "dropping_index": dropping_object_index(listed),
        "points": listed,
    }
    if clip.scene.strip():
        info["scene"] = clip.scene.strip()
    if clip.drop_height_m is not None:
        info["drop_height_m"] = clip.drop_height_m
    crop = {"left": clip.crop.left, "top": clip.crop.top, "side": clip.crop.side}
    source = {"recording": clip.recording, "start": clip.start, "stop": clip.stop, "crop": crop}
    return info | {KEY: {**source, **extra}}


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not ((folder / "clip_info.json").is_file() and KEY in read_info(folder)):
        raise PisaError(f"{folder}: exists and was not made here; rename the clip")
