"""Long slow-motion recordings: one pass over the file, then every frame within milliseconds.

A phone's recording has a key frame every second or so, and to show the frame before the next key
frame means to decode them all. So the recording is decoded once, and small pictures of all frames
are kept in one file beside an index. The recording itself is only ever read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from pisa.data.clip_io import write_npz
from pisa.data.image_files import MAX_PIXELS
from pisa.data.mask_files import read_arrays
from pisa.data.shown_frame import shown_frame, shown_grey, shown_size
from pisa.data.video_decoder import Decoder, moving_stream
from pisa.errors import PisaError, reason
from pisa.io.files import replace_file

FPS_HZ = 120.0  # of clips (paper section 3)
MAX_FRAMES = 200_000  # 27 minutes at 120 Hz
PREVIEW_PX = 960  # the longer side
GRID_PX = 96  # the longer side of the grey pictures in which motion is sought
_CAPTURE_KEYS = ("com.android.capture.fps", "com.apple.quicktime.capture.fps")

Progress = Callable[[float], None]  # from 0 to 1; may raise to stop the work


@dataclass(frozen=True)
class Recording:
    """A recording that has been read once.

    ``times_s`` are the file's own times, the first one 0; ``slowdown`` is how much slower than life
    it plays (a 120 fps recording saved at 30 fps: 4). ``rate_known`` is False where neither a tag
    of the file nor the user says at what rate it was captured.
    """

    path: Path
    size: tuple[int, int]  # height, width as shown: upright, square pixels
    times_s: Float[np.ndarray, " n"]
    first_s: float  # what the file calls its first frame's time
    grid: UInt8[np.ndarray, "n i j"]  # small grey pictures
    slowdown: float
    rate_known: bool
    pack: Path
    offsets: Int[np.ndarray, " n1"]

    @cached_property
    def index(self) -> Int[np.ndarray, " t"]:
        """The frame of the file at ``k / FPS_HZ`` of real time."""
        return even_index(self.times_s / self.slowdown, FPS_HZ)

    @property
    def num_frames(self) -> int:
        """At ``FPS_HZ``."""
        return len(self.index)

    @property
    def native_fps_hz(self) -> float:
        """Frames per second of real time, the median."""
        if len(self.times_s) < 2:
            return float("nan")
        return float(self.slowdown / np.median(np.diff(self.times_s)))

    def preview(self, frame: int) -> bytes:
        """JPEG of the frame at ``frame / FPS_HZ``, its longer side at most ``PREVIEW_PX``."""
        source = int(self.index[frame])
        with self.pack.open("rb") as file:
            file.seek(int(self.offsets[source]))
            return file.read(int(self.offsets[source + 1] - self.offsets[source]))


def even_index(times_s: Float[np.ndarray, " n"], rate_hz: float) -> Int[np.ndarray, " t"]:
    """The frame nearest to each ``k / rate_hz``; ``0 ... n-1`` where all lie within half a period.

    A recording of variable rate repeats frames in its gaps; the check of the rate counts them.
    """
    count = np.arange(len(times_s))
    if (np.abs(times_s - count / rate_hz) <= 0.5 / rate_hz).all():
        return count
    wanted = np.arange(int(times_s[-1] * rate_hz + 1e-6) + 1) / rate_hz
    after = np.searchsorted(times_s, wanted).clip(1, len(times_s) - 1)
    nearer = wanted - times_s[after - 1] <= times_s[after] - wanted
    return after - nearer


def import_recording(path: Path, folder: Path, progress: Progress = lambda _: None) -> Recording:
    """Read the whole recording once and keep its pictures in ``folder``; later calls open these.

    Raises ``PisaError`` naming the file where it is not a video, broken or cut short.
    """
    if (folder / "index.npz").is_file():
        return _open(path, folder)
    # the index is moved last: with it the import is complete, another process may do the same
    with replace_file(folder / "index.npz") as index, replace_file(folder / "frames.bin") as frames:
        with frames.open("wb") as pack:
            arrays = _read_all(path, pack.write, progress)
        write_npz(index, arrays)
    return _open(path, folder)


def _read_all(
    path: Path, write: Callable[[bytes], object], progress: Progress
) -> dict[str, np.ndarray]:
    if path.stat().st_size == 0:
        raise PisaError(f"{path}: is empty (0 bytes); copy it from the phone again")
    shrink = Shrink()
    times_s, grid, offsets = [], [], [0]
    length_s, slowdown, rate_known = _length_and_slowdown(path)
    with Decoder(path, MAX_PIXELS, MAX_FRAMES, shrink, threads=True) as decoder:
        for time_s, (picture, small) in decoder:
            data = to_jpeg(picture, 82)
            write(data)
            offsets.append(offsets[-1] + len(data))
            times_s.append(float(time_s))
            grid.append(small)
            progress(min(1.0, (times_s[-1] - times_s[0]) / length_s) if length_s else 0.0)
    if len(times_s) < 2 or min(np.diff(times_s)) <= 0:
        raise PisaError(f"{path}: needs two frames or more, at times that increase")
    return {
        "times_s": np.array(times_s) - times_s[0],
        "first_s": np.array(times_s[0]),
        "grid": np.stack(grid),
        "offsets": np.array(offsets),
        "size": np.array(shrink.size),
        "slowdown": np.array(slowdown),
        "rate_known": np.array(rate_known),
    }


def _open(path: Path, folder: Path) -> Recording:
    arrays = read_arrays(folder / "index.npz")
    return Recording(
        path=path,
        size=(int(arrays["size"][0]), int(arrays["size"][1])),
        times_s=arrays["times_s"],
        first_s=float(arrays["first_s"]),
        grid=arrays["grid"],
        slowdown=float(arrays["slowdown"]),
        rate_known=bool(arrays.get("rate_known", False)),  # absent in older folders
        pack=folder / "frames.bin",
        offsets=arrays["offsets"],
    )


class Shrink:
    """Frames as shown: a picture of ``PREVIEW_PX`` and a grey one of ``GRID_PX``."""

    def __init__(self) -> None:
        self.size = (0, 0)

    def __call__(
        self, frame: av.VideoFrame, pixel_aspect: Fraction
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "i j"]]:
        self.size = shown_size(frame, pixel_aspect)
        picture = shown_frame(frame, pixel_aspect, PREVIEW_PX)
        return picture, shown_grey(frame, pixel_aspect, GRID_PX)


def fitting(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """The size scaled down so that its longer side is at most ``longest``."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def to_jpeg(picture: UInt8[np.ndarray, "h w 3"], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=quality)
    return buffer.getvalue()


def _length_and_slowdown(path: Path) -> tuple[float | None, float, bool]:
    """Declared length, how much slower than life the file plays, and whether a tag says so."""
    try:
        with av.open(str(path)) as container:
            tags = dict(container.metadata)
            stream = moving_stream(container)
            tags |= dict(stream.metadata) if stream is not None else {}
            rate = float(stream.average_rate or 0) if stream is not None else 0.0
            length_s = container.duration / av.time_base if container.duration else None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise PisaError(f"{path}: cannot read video: {reason(error)}") from error
    named = next((tags[key] for key in _CAPTURE_KEYS if key in tags), None)
    try:
        capture = float(named) if named is not None else 0.0
    except ValueError:
        capture = 0.0
    tagged = bool(rate) and math.isfinite(capture) and capture > 0
    return length_s, capture / rate if tagged and capture > 1.2 * rate else 1.0, tagged
