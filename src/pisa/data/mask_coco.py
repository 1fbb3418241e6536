"""COCO annotations of videos, in the layout of YouTube-VIS: one JSON file, masks as run lengths.

``frame_numbers`` and ``times_s`` are added to each video's entry; other readers ignore them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from pisa.data.mask_coding import (
    box_of,
    fill_polygon,
    from_coco_text,
    from_run_lengths,
    run_lengths,
    to_coco_text,
)
from pisa.data.mask_video import MaskVideo, empty_masks
from pisa.errors import PisaError, reason
from pisa.io.files import write_atomic

_NUMBER = re.compile(r"(\d+)\D*$")  # of a frame, the last one in its file's name
_INVALID = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def write_coco(video: MaskVideo, path: Path) -> None:
    """One video; objects with the same label share a category."""
    height, width = video.size
    labels = list(dict.fromkeys(video.objects))
    entry: dict[str, Any] = {
        "id": 1,
        "name": video.name,
        "width": width,
        "height": height,
        "length": len(video.frames),
        "file_names": [f"{video.name}/{number:05d}.jpg" for number in video.frames],
        "frame_numbers": list(video.frames),
    }
    if video.times_s is not None:
        entry["times_s"] = list(video.times_s)
    annotations = [
        {
            "id": index + 1,
            "video_id": 1,
            "category_id": labels.index(label) + 1,
            "iscrowd": 0,
            "height": height,
            "width": width,
            "length": len(video.frames),
            "segmentations": [_encoded(mask) for mask in video.masks[:, index]],
            "bboxes": [box_of(m) if m.any() else None for m in video.masks[:, index]],
            "areas": [int(m.sum()) or None for m in video.masks[:, index]],
        }
        for index, label in enumerate(video.objects)
    ]
    categories = [{"id": i + 1, "name": label} for i, label in enumerate(labels)]
    document = {"videos": [entry], "categories": categories, "annotations": annotations}
    write_atomic(path, json.dumps(document).encode())


def read_coco(path: Path, name: str | None = None) -> MaskVideo:
    """The video of that ``name``, or the only one. Masks may be run lengths or polygons.

    Frames are numbered by ``frame_numbers``, else by the numbers in their files' names.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        videos = {_name_of(video): video for video in document["videos"]}
        labels = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        video = videos[choose_video(path, list(videos), name)]
        annotations = [a for a in document["annotations"] if a["video_id"] == video["id"]]
        return _video(path, video, annotations, labels)
    except (OSError, RecursionError, *_INVALID) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
        raise PisaError(f"{path}: is no COCO file of videos (YouTube-VIS): {why}") from error


def choose_video(path: Path, names: list[str], name: str | None) -> str:
    """``name``, or the only one of ``names``. Raises ``PisaError`` that lists them."""
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        wanted = "several videos" if name is None else f"no video {name!r}"
        listed = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise PisaError(f"{path}: holds {wanted}; choose one with --video: {listed}")
    return name


def _name_of(video: dict[str, Any]) -> str:
    """A video's ``name``, else the folder of its frames."""
    folder = Path(video["file_names"][0]).parent.name if video["file_names"] else ""
    return str(video.get("name") or folder or video["id"])


def _video(
    path: Path, video: dict[str, Any], annotations: list[dict[str, Any]], labels: dict[int, str]
) -> MaskVideo:
    height, width, length = int(video["height"]), int(video["width"]), len(video["file_names"])
    masks = empty_masks((length, len(annotations), height, width), path)
    for index, annotation in enumerate(annotations):
        segmentations = annotation["segmentations"]
        if len(segmentations) != length:
            raise PisaError(
                f"{path}: annotation {annotation['id']} has masks of {len(segmentations)} frames, "
                f"its video has {length}"
            )
        for t, segmentation in enumerate(segmentations):
            if segmentation:
                masks[t, index] = _decoded(segmentation, height, width)
    numbers = video.get("frame_numbers") or _numbers(video["file_names"])
    times_s = video.get("times_s")
    return MaskVideo(
        masks,
        tuple(int(n) for n in numbers),
        tuple(labels[annotation["category_id"]] for annotation in annotations),
        None if times_s is None else tuple(float(t) for t in times_s),
        _name_of(video),
    )


def _numbers(file_names: list[str]) -> list[int]:
    """Frame numbers in the files' names; 0, 1, 2 ... where they have none."""
    found = [_NUMBER.search(Path(name).stem) for name in file_names]
    numbers = [int(match[1]) for match in found if match]
    return numbers if len(numbers) == len(file_names) else list(range(len(file_names)))


def _encoded(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any] | None:
    if not mask.any():
        return None
    counts = to_coco_text(run_lengths(mask.ravel(order="F")))  # column by column
    return {"size": list(mask.shape), "counts": counts}


def _decoded(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):  # polygons
        mask = np.zeros((height, width), dtype=bool)
        for polygon in segmentation:
            mask |= fill_polygon(np.array(polygon, dtype=float).reshape(-1, 2), height, width)
        return mask
    if list(segmentation["size"]) != [height, width]:
        h, w = segmentation["size"]
        raise ValueError(f"a mask is {w}x{h} px, its video {width}x{height}")
    counts = segmentation["counts"]
    runs = from_coco_text(counts) if isinstance(counts, str) else counts
    return from_run_lengths(runs, height * width).reshape(height, width, order="F")
