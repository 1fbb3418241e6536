"""What ``clip_info.json`` says, checked; the release's files and ours (docs/data_format.md)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from pisa.types import Camera, Clip, PisaError, reason

SCHEMA = 1
NOT_RECORDED = "not recorded"  # where reports group clips by a scene that some lack
RELEASE_SIM_FPS_HZ = 16.0  # of the release's rgba_*.jpg clips, whose clip_info.json may lack it
RELEASE_REAL_FPS_HZ = 120.0  # of the release's 00000.jpg clips (paper section 3)


def info_of(clip: Clip) -> dict[str, object]:
    """The reserved keys of ``clip_info.json`` for a clip about to be written."""
    info: dict[str, object] = {
        "schema": SCHEMA,
        "fps": clip.fps_hz,
        "caption": clip.caption,
        "num_frames": clip.video.shape[1],
        "num_objects": len(clip.masks),
        "dropping_index": clip.dropping_index % len(clip.masks),
    }
    if clip.camera is not None:
        info["camera"] = asdict(clip.camera)
    if clip.drop_height_m is not None:
        info["drop_height_m"] = clip.drop_height_m
    return info


def read_info(folder: Path) -> dict:
    """The object in ``clip_info.json``; ``PisaError`` if it is none, or of a newer schema."""
    path = folder / "clip_info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error
    if not isinstance(info, dict):
        raise PisaError(f"{path}: must hold a JSON object, not {type(info).__name__}")
    if info.get("schema", SCHEMA) != SCHEMA:
        raise PisaError(f"{path}: has schema {info['schema']!r:.40}; this version reads {SCHEMA}")
    return info


def fps_of(info: dict, first_frame: Path) -> float:
    """Frames per second; where the release leaves it out, its rate for that kind of clip.

    Raises ``PisaError`` for a rate that is no number above 0.
    """
    fps_hz = number(info, "fps", first_frame.parent)
    if fps_hz is None:
        simulated = first_frame.name.startswith("rgba_")
        return RELEASE_SIM_FPS_HZ if simulated else RELEASE_REAL_FPS_HZ
    if fps_hz <= 0:
        raise PisaError(f"{first_frame.parent / 'clip_info.json'}: fps must be above 0")
    return fps_hz


def check_num_frames(info: dict, found: int, folder: Path) -> None:
    """``PisaError`` when frames at the end are missing."""
    if info.get("num_frames", found) != found:
        raise PisaError(
            f"{folder}: has {found} frames, but clip_info.json says {info['num_frames']!r:.40}"
        )


def number(info: dict, key: str, folder: Path) -> float | None:
    """A finite number, or None where the key is absent.

    Raises ``PisaError`` for anything else.
    """
    value = info.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise PisaError(f"{folder / 'clip_info.json'}: {key} must be a number, not {value!r:.60}")
    return float(value)


def caption_of(info: dict, folder: Path) -> str:
    caption = next((info[key] for key in ("caption", "text", "prompt") if key in info), "")
    if not isinstance(caption, str):
        raise PisaError(f"{folder / 'clip_info.json'}: caption must be text")
    return caption


def scene_of(info: dict, folder: Path) -> str | None:
    """Where the clip was filmed (paper Figure 3b); None where that is not recorded.

    Raises ``PisaError`` where it is no text.
    """
    scene = info.get("scene")
    if scene is not None and (not isinstance(scene, str) or not scene):
        raise PisaError(f"{folder / 'clip_info.json'}: scene must be text")
    return scene


def dropping_index_of(info: dict, num_objects: int, folder: Path) -> int:
    """Which mask drops, in ``[0, num_objects)``.

    Ours: as recorded. The release: with points, the object with the smallest positive-point y
    (ties: the first); without points (simulated), the last.

    Raises ``PisaError`` where points or index do not go with the masks.
    """
    path = folder / "clip_info.json"
    if "dropping_index" in info:
        index = info["dropping_index"]
        if type(index) is not int or not -num_objects <= index < num_objects:
            raise PisaError(f"{path}: dropping_index {index!r:.60} is none of {num_objects} masks")
        return index % num_objects
    if "points" not in info:
        return num_objects - 1
    try:
        heights = [min(float(y) for _, y in entry["positive"]) for entry in info["points"]]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PisaError(f"{path}: points must be [{{'positive': [[x, y], ...]}}, ...]") from error
    if len(heights) != num_objects:
        raise PisaError(f"{path}: points of {len(heights)} objects, but {num_objects} masks")
    return heights.index(min(heights))


def camera_of(info: dict, height: int, width: int, folder: Path) -> Camera | None:
    """The camera of a clip of ours at that image size; None where none is recorded.

    Raises ``PisaError`` for one that is incomplete or impossible.
    """
    record = info.get("camera")
    if record is None or "schema" not in info:
        return None
    path = folder / "clip_info.json"
    try:
        x, y, z = (float(v) for v in record["position_m"])
        focal, sensor = float(record["focal_mm"]), float(record["sensor_mm"])
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PisaError(f"{path}: camera needs position_m, focal_mm and sensor_mm") from error
    if not all(map(math.isfinite, (x, y, z, focal, sensor))) or min(focal, sensor) <= 0:
        raise PisaError(f"{path}: camera holds impossible numbers")
    return Camera((x, y, z), height, width, focal, sensor)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False
