"""The frames of one clip at full resolution, cropped, and the folder that is saved of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from pisa.annotate.motion import Crop
from pisa.annotate.recording import FPS_HZ, Progress, Recording
from pisa.annotate.store import ClipDraft
from pisa.annotate.tracking import object_points
from pisa.data.clip_info import SCHEMA, read_info
from pisa.data.image_files import frame_paths
from pisa.data.mask_files import write_mask_file
from pisa.data.shown_frame import shown_frame
from pisa.data.video_decoder import moving_stream
from pisa.errors import PisaError, reason
from pisa.io.files import replace_folder
from pisa.ops.masks import dropping_object_index

QUALITY = 95  # as docs/reference/data_format.md has it
_EARLIER_S = 0.2  # seek so much before the first frame: times of key frames may be rounded
_DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, LookupError)


def frames_digest(recording: Recording, clip: ClipDraft, size_px: int | None) -> str:
    """Names what the frames of a clip depend on: file, cut, crop and size."""
    crop = (clip.crop.left, clip.crop.top, clip.crop.side)
    parts = [recording.pack.parent.name, recording.slowdown, clip.start, clip.stop, crop, size_px]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def clip_side_px(crop: Crop, size_px: int | None) -> int:
    """Side of the clip's frames: the crop's own, at most ``size_px``."""
    return crop.side if size_px is None else min(crop.side, size_px)


def prepare_frames(
    recording: Recording,
    clip: ClipDraft,
    folder: Path,
    size_px: int | None,
    progress: Progress = lambda _: None,
) -> Path:
    """Write ``00000.jpg ...`` of the clip to ``folder`` (whole or not at all) and return it."""
    if folder.is_dir():
        return folder
    side = clip_side_px(clip.crop, size_px)
    wanted = recording.index[clip.start : clip.stop]
    if len(wanted) != clip.num_frames:
        raise PisaError(f"{clip.name} ends after its recording does")
    with replace_folder(folder) as part:
        written = 0
        for source, frame in _frames(recording, wanted):
            first = part / f"{written:05d}.jpg"
            _cropped(frame, clip.crop, side).save(first, quality=QUALITY, subsampling=0)
            written += 1
            while written < len(wanted) and wanted[written] == source:  # a repeated frame
                shutil.copyfile(first, part / f"{written:05d}.jpg")
                written += 1
            progress(written / len(wanted))
        if written != len(wanted):
            raise PisaError(f"{recording.path}: only {written} of {len(wanted)} frames were found")
    return folder


def _frames(
    recording: Recording, wanted: np.ndarray
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    """The distinct frames of the file in ``wanted`` (rising), as shown."""
    times_s = recording.times_s + recording.first_s
    remaining = [int(i) for i in np.unique(wanted)]
    try:
        with av.open(str(recording.path)) as container:
            stream = moving_stream(container)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            stream.thread_type = "AUTO"
            from_s = times_s[remaining[0]] - _EARLIER_S
            container.seek(int(from_s / float(stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                source = int(np.abs(times_s - float(frame.time or 0.0)).argmin())
                if source == remaining[0]:
                    yield source, shown_frame(frame, aspect)
                    remaining.pop(0)
                if not remaining:
                    return
    except _DECODE_ERRORS as error:
        raise PisaError(f"{recording.path}: cannot read video: {reason(error)}") from error


def _cropped(frame: UInt8[np.ndarray, "h w 3"], crop: Crop, side: int) -> Image.Image:
    part = frame[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    picture = Image.fromarray(np.ascontiguousarray(part))
    return picture if side == crop.side else picture.resize((side, side))


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
    with replace_folder(folder) as part:
        for path in paths:
            shutil.copyfile(path, part / path.name)
        write_mask_file(part / "mask.npz", masks, (*masks.shape[:2], side, side))
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
