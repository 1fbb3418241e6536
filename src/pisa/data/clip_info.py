"""``clip_info.json``, checked: the release's files and ours (docs/reference/data_format.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pisa.errors import PisaError, reason
from pisa.ops.masks import MaskError, dropping_object_index
from pisa.types import Camera, Clip, ObjectPoints

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
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

    Ours: as recorded. The release: ``pisa.ops.masks.dropping_object_index``; without points
    (simulated), the last.

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
    points = info["points"]
    if not isinstance(points, list) or not all(isinstance(entry, dict) for entry in points):
        raise PisaError(f"{path}: points must be [{{'positive': [[x, y], ...]}}, ...]")
    try:
        index = dropping_object_index(points)
    except MaskError as error:
        raise PisaError(f"{path}: {error}") from error
    if (count := len(points)) != num_objects:
        raise PisaError(f"{path}: points of {count} objects, but {num_objects} masks")
    return index


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


def drop_depth_of(info: dict, dropping: int, camera: Camera | None) -> float | None:
    """Depth in m of the dropping object's centre in frame 0; None where it is not recorded."""
    try:
        depth_m = float(info["objects"][dropping]["position_m"][1]) - camera.position_m[1]  # type: ignore[union-attr]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return depth_m if math.isfinite(depth_m) and depth_m > 0 else None


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of float
        return False


Size = tuple[int, int]  # height, width


def parse_points(info: Mapping[str, Any], folder: Path) -> list[ObjectPoints]:
    """``points`` of a ``clip_info.json``, one entry per object.

    Raises ``PisaError`` where there are none or an object has no positive point.
    """
    path = folder / "clip_info.json"
    entries = info.get("points")
    if not entries:
        raise PisaError(f'{path}: has no points; add [{{"positive": [[x, y]], "negative": []}}]')
    try:
        objects = [
            ObjectPoints(_pairs(entry["positive"]), _pairs(entry.get("negative") or []))
            for entry in entries
        ]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise PisaError(f"{path}: points must be [{{'positive': [[x, y], ...]}}, ...]") from error
    bare = next((i for i, entry in enumerate(objects) if not entry.positive), None)
    if bare is not None:
        raise PisaError(f"{path}: object {bare} has no positive point")
    return objects


def points_of(info: Mapping[str, Any], index: int, folder: Path) -> ObjectPoints | None:
    """Annotated points of one object in frame 0; None where the clip has none of it.

    Raises ``PisaError`` for points that cannot be read.
    """
    entries = info.get("points")
    if not entries or index >= len(entries) or not entries[index].get("positive"):
        return None
    return parse_points({"points": [entries[index]]}, folder)[0]


def scale_points(objects: Sequence[ObjectPoints], old: Size, new: Size) -> list[ObjectPoints]:
    """The same places in frames rescaled from ``old`` to ``new`` (pixel centres at integers)."""

    def scaled(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
        factor_x, factor_y = new[1] / old[1], new[0] / old[0]
        return tuple(((x + 0.5) * factor_x - 0.5, (y + 0.5) * factor_y - 0.5) for x, y in points)

    return [ObjectPoints(scaled(o.positive), scaled(o.negative)) for o in objects]


def _pairs(points: Any) -> tuple[tuple[float, float], ...]:
    pairs = [(float(x), float(y)) for x, y in points]
    if any(not (abs(x) < 1e6 and abs(y) < 1e6) for x, y in pairs):
        raise ValueError("a coordinate is out of range")
    return tuple(pairs)


def check_name(name: str) -> str:
    """The name itself if it is a plain one (letters, digits, ``. _ -``); else ``PisaError``."""
    if not _PLAIN_NAME.fullmatch(name):
        raise PisaError(f"{name!r} is no plain name (letters, digits, '.', '_' and '-' only)")
    return name


def study_of(clip: Path, kind: str) -> Mapping[str, Any]:
    """The simulator's record for section 5, under the key ``study``.

    Raises ``PisaError`` where the clip is of another kind of data set.
    """
    study = read_info(clip).get("study")
    if not isinstance(study, dict) or study.get("kind") != kind:
        raise PisaError(f"{clip}: is no clip of the {kind!r} kind; simulate.py makes such sets")
    return study
