"""XML annotations of a video as CVAT exports and imports them ("CVAT for video 1.1").

CVAT tracks polygons but not masks: it writes every mask as a track of one frame. So do we, and the
tracks of one object share a ``group_id``. The format has frame numbers and no times; those are
added to ``meta``, which CVAT does not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from jaxtyping import Bool

from pisa.data.mask_coding import box_of, fill_polygon, from_run_lengths, run_lengths
from pisa.data.mask_video import MaskVideo, empty_masks
from pisa.errors import PisaError, reason
from pisa.io.files import write_atomic

MAX_FRAMES = 1_000_000  # two hours at 120 Hz
_OWN = "pisa"  # element of meta: frames, times_s, objects


def write_cvat(video: MaskVideo, path: Path) -> None:
    """One track per object and frame that shows it."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    _write_meta(video, SubElement(root, "meta"))
    shown = np.argwhere(video.masks.any(axis=(2, 3)))
    for track_id, (t, index) in enumerate(shown):
        label, mask = video.objects[index], video.masks[t, index]
        group = str(index + 1)
        track = SubElement(root, "track", id=str(track_id), label=label, group_id=group)
        number = video.frames[t]
        ends = (0, 1) if number < video.frames[-1] else (0,)
        for offset in ends:  # without an end, CVAT would show the mask in all later frames
            shape = SubElement(track, "mask", frame=str(number + offset), outside=str(offset))
            shape.attrib |= {"occluded": "0", "keyframe": "1", **_encoded(mask), "z_order": "0"}
    ElementTree.indent(root)
    write_atomic(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _write_meta(video: MaskVideo, meta: Element) -> None:
    task = SubElement(meta, "task")
    SubElement(task, "name").text = video.name
    SubElement(task, "size").text = str(video.frames[-1] + 1)
    SubElement(task, "mode").text = "interpolation"
    labels = SubElement(task, "labels")
    for name in dict.fromkeys(video.objects):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "type").text = "mask"
    size = SubElement(task, "original_size")
    SubElement(size, "width").text = str(video.size[1])
    SubElement(size, "height").text = str(video.size[0])
    own = SubElement(meta, _OWN)
    SubElement(own, "frames").text = " ".join(str(n) for n in video.frames)
    if video.times_s is not None:
        SubElement(own, "times_s").text = " ".join(repr(t) for t in video.times_s)
    for name in video.objects:
        SubElement(own, "object").text = name


def read_cvat(path: Path) -> MaskVideo:
    """Masks and polygons of all tracks; other shapes are refused.

    An object is a track, or the one-frame tracks of one ``group_id``, or, where they have none, of
    one label. Without our own list, the annotated frames are those of the task.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # could expand without bound
            raise ValueError("declares a document type")
        root = ElementTree.fromstring(content)
        if root.tag != "annotations":
            raise ValueError(f"its root element is {root.tag}")
        if root.find("image") is not None:
            raise ValueError("it annotates images; export as 'CVAT for video 1.1'")
        return _video(root, path)
    except (OSError, ElementTree.ParseError, ValueError, KeyError, OverflowError) as error:
        raise PisaError(f"{path}: is no XML of a video from CVAT: {reason(error)}") from error


def _video(root: Element, path: Path) -> MaskVideo:
    width, height = (
        int(_text(root, f"meta//original_size/{side}")) for side in ("width", "height")
    )
    objects = _objects(root)
    own = root.find(f"meta/{_OWN}")
    labels = [key[1] for key in objects]
    if own is None:
        shown = {n for shapes in objects.values() for n in shapes}
        frames = sorted({*_task_frames(root), *shown})
        times_s = None
    else:
        frames = [int(n) for n in (own.findtext("frames") or "").split()]
        times = own.findtext("times_s")
        times_s = None if times is None else tuple(float(t) for t in times.split())
        listed = [(f"group {i + 1}", e.text or "") for i, e in enumerate(own.findall("object"))]
        objects = {key: objects.get(key, {}) for key in dict.fromkeys([*listed, *objects])}
        labels = [key[1] for key in objects]
    places = {number: t for t, number in enumerate(frames)}
    masks = empty_masks((len(frames), len(objects), height, width), path)
    for index, shapes in enumerate(objects.values()):
        for number, shape in shapes.items():
            if number not in places:
                raise ValueError(f"a mask is in frame {number}, which the task does not have")
            masks[places[number], index] = _decoded(shape, height, width)
    return MaskVideo(masks, tuple(frames), tuple(labels), times_s, _name(root, path))


def _objects(root: Element) -> dict[tuple[str, str], dict[int, Element]]:
    """Shapes by frame of each object, which is named by what keeps it together, and its label."""
    objects: dict[tuple[str, str], dict[int, Element]] = {}
    for track in root.iterfind("track"):
        label, group = track.attrib["label"], track.get("group_id", "0")
        shapes = list(_shapes(track))
        key = f"track {track.get('id')}"
        if len(shapes) == 1:
            key = f"group {group}" if group != "0" else "label"
        frames = objects.setdefault((key, label), {})
        for shape in shapes:
            number = int(shape.attrib["frame"])
            if number in frames:
                raise ValueError(
                    f"label {label!r} has two masks in frame {number}; group those of one object, "
                    "or give each object its own label"
                )
            frames[number] = shape
    return objects


def _shapes(track: Element) -> Iterator[Element]:
    for shape in track:
        if shape.tag not in ("mask", "polygon"):
            raise ValueError(f"track {track.get('id')} is a {shape.tag}, not a mask or a polygon")
        if shape.get("outside", "0") == "0":
            yield shape


def _task_frames(root: Element) -> range:
    """Frames of the task: of the video, from its first to its last one by its step."""
    task = root.find("meta/task")
    task = root if task is None else task
    start = int(task.findtext("start_frame") or 0)
    filtered = task.findtext("frame_filter") or ""
    step = int(filtered.partition("step=")[2] or 1)
    size = int(task.findtext("size") or 0)
    if not 0 <= size <= MAX_FRAMES:
        raise ValueError(f"its task has {size} frames")
    return range(start, start + size * step, step)


def _name(root: Element, path: Path) -> str:
    return root.findtext("meta/task/name") or path.stem


def _text(root: Element, where: str) -> str:
    text = root.findtext(where)
    if text is None:
        raise ValueError(f"{where} is missing")
    return text


def _encoded(mask: Bool[np.ndarray, "h w"]) -> dict[str, str]:
    """Run lengths row by row inside the box around the mask."""
    left, top, width, height = box_of(mask)
    runs = run_lengths(mask[top : top + height, left : left + width].ravel())
    place = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(str(n) for n in runs)} | {k: str(v) for k, v in place.items()}


def _decoded(shape: Element, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    if shape.tag == "polygon":
        points = [[float(v) for v in p.split(",")] for p in shape.attrib["points"].split(";")]
        return fill_polygon(np.array(points), height, width)
    left, top, w, h = (int(float(shape.attrib[k])) for k in ("left", "top", "width", "height"))
    if min(left, top) < 0 or left + w > width or top + h > height:
        raise ValueError(
            f"the mask in frame {shape.get('frame')} reaches outside of {width}x{height} px"
        )
    mask = np.zeros((height, width), dtype=bool)
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    mask[top : top + h, left : left + w] = from_run_lengths(runs, w * h).reshape(h, w)
    return mask
