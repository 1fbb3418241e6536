"""Masks as palette PNGs, one picture a frame: DAVIS and YouTube-VOS.

A pixel's value is the number of its object from 1 on, 0 the background, so objects cannot overlap.
A picture's name is its frame's number. Time and labels are added as text of the PNG, which other
readers ignore.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pisa.data.clip_info import check_name
from pisa.data.image_files import IMAGE_ERRORS
from pisa.data.mask_coco import choose_video
from pisa.data.mask_video import MaskVideo, empty_masks, numbered_labels
from pisa.errors import PisaError, reason
from pisa.io.files import replace_folder

MAX_OBJECTS = 254  # 255 means "unknown" to some readers
_TEXT = "pisa"  # key of the PNG's text


def write_davis(video: MaskVideo, folder: Path) -> None:
    """``00000.png ...``: one folder of ``Annotations/480p`` of DAVIS."""
    with replace_folder(folder) as part:
        _write_pictures(video, part)


def read_davis(folder: Path) -> MaskVideo:
    """A folder of palette pictures; black and white ones (DAVIS 2016) show one object."""
    numbers, pictures, texts = _read_pictures(folder)
    first = texts[0] or {}
    count = max(int(picture[picture != 255].max(initial=0)) for picture in pictures)
    labels = first.get("objects") or numbered_labels(count)
    times_s = [text.get("time_s") for text in texts if text]
    known = len(times_s) == len(texts) and all(isinstance(t, int | float) for t in times_s)
    return MaskVideo(
        _masks(pictures, list(range(1, len(labels) + 1)), folder),
        numbers,
        tuple(str(label) for label in labels),
        tuple(float(t) for t in times_s if t is not None) if known else None,
        folder.name,
    )


def write_youtube_vos(video: MaskVideo, folder: Path) -> None:
    """``meta.json`` and ``Annotations/NAME/00000.png ...``.

    An object's ``frames`` in ``meta.json`` are those that show it. ``frame_times_s`` is added.
    """
    check_name(video.name)
    names = [f"{number:05d}" for number in video.frames]
    entry: dict[str, Any] = {
        "objects": {
            str(index + 1): {
                "category": label,
                "frames": [n for n, mask in zip(names, masks, strict=True) if mask.any()],
            }
            for index, (label, masks) in enumerate(
                zip(video.objects, video.masks.swapaxes(0, 1), strict=True)
            )
        }
    }
    if video.times_s is not None:
        entry["frame_times_s"] = dict(zip(names, video.times_s, strict=True))
    with replace_folder(folder) as part:
        pictures = part / "Annotations" / video.name
        pictures.mkdir(parents=True)
        _write_pictures(video, pictures)
        text = json.dumps({"videos": {video.name: entry}}, indent=1)
        (part / "meta.json").write_text(text, encoding="utf-8")


def read_youtube_vos(folder: Path, name: str | None = None) -> MaskVideo:
    """The video of that ``name``, or the only one of ``meta.json``."""
    path = folder / "meta.json"
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        name = check_name(choose_video(path, list(videos), name))
        objects = videos[name]["objects"]
        values = [int(key) for key in objects]
        labels = tuple(str(entry.get("category", key)) for key, entry in objects.items())
        times = videos[name].get("frame_times_s")
        numbers, pictures, _ = _read_pictures(folder / "Annotations" / name)
        times_s = None if times is None else tuple(float(times[f"{n:05d}"]) for n in numbers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PisaError(f"{path}: is no meta.json of YouTube-VOS: {reason(error)}") from error
    return MaskVideo(_masks(pictures, values, folder), numbers, labels, times_s, name)


def _write_pictures(video: MaskVideo, folder: Path) -> None:
    if len(video.objects) > MAX_OBJECTS:
        raise PisaError(
            f"{video.name}: {len(video.objects)} objects do not fit into a palette of "
            f"{MAX_OBJECTS}; use --format coco"
        )
    for t, (number, masks) in enumerate(zip(video.frames, video.masks, strict=True)):
        if (masks.sum(axis=0) > 1).any():
            raise PisaError(
                f"{video.name}: objects overlap in frame {number}, and a pixel of a palette "
                "picture belongs to one object; use --format coco or cvat"
            )
        values = np.zeros(video.size, dtype=np.uint8)
        for index, mask in enumerate(masks):
            values[mask] = index + 1
        picture = Image.fromarray(values, mode="P")
        picture.putpalette(_palette().tobytes())
        text = PngInfo()
        time_s = None if video.times_s is None else video.times_s[t]
        text.add_text(_TEXT, json.dumps({"time_s": time_s, "objects": video.objects}))
        picture.save(folder / f"{number:05d}.png", pnginfo=text)


def _read_pictures(
    folder: Path,
) -> tuple[tuple[int, ...], list[UInt8[np.ndarray, "h w"]], list[dict[str, Any] | None]]:
    """Numbers, object values and our text of the pictures in ``folder``, in order."""
    paths = {int(p.stem): p for p in folder.glob("*.png") if p.stem.isdecimal()}
    if not paths:
        raise PisaError(f"{folder}: holds no pictures named by their frame (00000.png ...)")
    numbers = tuple(sorted(paths))
    read = [_read_picture(paths[number]) for number in numbers]
    for number, (values, _) in zip(numbers, read, strict=True):
        if values.shape != read[0][0].shape:
            (h, w), (h0, w0) = values.shape, read[0][0].shape
            raise PisaError(f"{paths[number]}: is {w}x{h} px, {paths[numbers[0]].name} {w0}x{h0}")
    return numbers, [values for values, _ in read], [text for _, text in read]


def _read_picture(path: Path) -> tuple[UInt8[np.ndarray, "h w"], dict[str, Any] | None]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            mode, values = image.mode, np.asarray(image)
            text = json.loads(getattr(image, "text", {}).get(_TEXT, "null"))
    except IMAGE_ERRORS as error:
        raise PisaError(f"{path}: cannot read mask: {reason(error)}") from error
    if mode == "1" or (mode == "L" and set(np.unique(values)) <= {0, 255}):
        return (values > 0).astype(np.uint8), None
    if mode not in ("P", "L"):
        raise PisaError(f"{path}: is a picture in {mode}, not of object numbers (a palette PNG)")
    return values, text if isinstance(text, dict) else None


def _masks(pictures: list[UInt8[np.ndarray, "h w"]], values: list[int], folder: Path) -> np.ndarray:
    """One channel per value, ``[T, N, H, W]``. Raises ``PisaError`` for a pixel of another."""
    masks = empty_masks((len(pictures), len(values), *pictures[0].shape), folder)
    for t, picture in enumerate(pictures):
        unknown = set(np.unique(picture).tolist()) - {0, 255, *values}
        if unknown:
            raise PisaError(f"{folder}: a mask shows object {min(unknown)}, which is not listed")
        for index, value in enumerate(values):
            masks[t, index] = picture == value
    return masks


def _palette() -> UInt8[np.ndarray, "256 3"]:
    """The colours of PASCAL VOC and DAVIS: bits 0, 3, 6 of the number are red's highest, ..."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours
