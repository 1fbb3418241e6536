"""The frames of one clip at their full resolution, cropped: made once per cut and crop."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pisa.annotate.crop import Crop
from pisa.annotate.project import ClipDraft
from pisa.annotate.recording import Progress, Recording, upright
from pisa.data.clip_io import appear_at_once
from pisa.types import PisaError, reason

QUALITY = 95  # as docs/data_format.md has it
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
    with appear_at_once(folder) as part:
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
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            from_s = times_s[remaining[0]] - _EARLIER_S
            container.seek(int(from_s / float(stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                source = int(np.abs(times_s - float(frame.time or 0.0)).argmin())
                if source == remaining[0]:
                    picture = frame.to_ndarray(format="rgb24")
                    yield source, upright(picture, recording.rotation_deg)
                    remaining.pop(0)
                if not remaining:
                    return
    except _DECODE_ERRORS as error:
        raise PisaError(f"{recording.path}: cannot read video: {reason(error)}") from error


def _cropped(frame: UInt8[np.ndarray, "h w 3"], crop: Crop, side: int) -> Image.Image:
    part = frame[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    picture = Image.fromarray(np.ascontiguousarray(part))
    return picture if side == crop.side else picture.resize((side, side))
