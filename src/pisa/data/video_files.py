"""Anyone's videos: files that PyAV decodes and folders of frames, at the benchmark's size.

Frames are cropped and rescaled one by one as they are decoded, so memory is that of the result.
What is declared (frame size, number of frames) is checked before it is believed. Every failure is
a ``PisaError`` that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pisa.data.borders import Window, central_window, content_window
from pisa.data.image_files import MAX_PIXELS, folder_frames, folder_rate_hz, read_image
from pisa.data.video_decoder import Decoder
from pisa.errors import PisaError
from pisa.ranges import Count

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
Frame = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Limits:
    """Limits on the declared size of a video; more is an error instead of a full memory."""

    pixels_per_frame: Count = MAX_PIXELS
    frames: Count = 10_000  # 12 s at 120 Hz are 1440


@dataclass(frozen=True)
class Footage:
    """A video as it is scored. ``native`` is the frame size (height, width) in the file."""

    frames: UInt8[np.ndarray, "t h w 3"]
    fps_hz: float
    native: tuple[int, int]
    window: Window  # what was kept of each frame


class Fit(StrEnum):
    """Treatment of frames of another aspect ratio that have no black borders."""

    REFUSE = "refuse"  # an error
    STRETCH = "stretch"  # the whole frame, its aspect ratio changed
    CROP = "crop"  # the largest centred part


def read_footage(
    path: Path,
    size: tuple[int, int],
    *,
    expected_fps_hz: float | None = None,
    fps_hz: float | None = None,
    fit: str = "refuse",
    limits: Limits | None = None,
) -> Footage:
    """A video file or frame folder, rescaled to ``size`` (height, width) as the benchmark is.

    Black borders that make up for another aspect ratio are removed (``pisa.data.borders``); ``fit``
    says what happens to frames that have none: "refuse", "stretch" or "crop" (the centre).
    ``fps_hz`` replaces what the file says; ``expected_fps_hz`` is preferred where the file's clock
    cannot tell the difference. Transparency shows black. A video has at least two frames.

    Raises ``PisaError`` for anything that is no video of that kind.
    """
    if fps_hz is not None and not 0 < fps_hz < 10_000:
        raise PisaError(f"fps_hz must be a positive number, not {fps_hz}")
    limits = limits or Limits()
    convert = _Converter(path, size, parse_fit(fit))
    if path.is_dir():
        frames = [convert(frame) for frame in _folder(path, limits)]
        rate_hz = fps_hz or folder_rate_hz(path)
    else:
        with Decoder(path, limits.pixels_per_frame, limits.frames) as decoder:
            timed = [(time_s, convert(frame)) for time_s, frame in decoder]
            tick_s = decoder.tick_s
        frames, rate_hz = _evened(path, timed, tick_s, expected_fps_hz, fps_hz)
    if len(frames) < 2:
        raise PisaError(f"{path}: holds {len(frames)} frame(s); a video has at least 2")
    return Footage(np.stack(frames), rate_hz, convert.native, convert.window)


def parse_fit(name: str) -> Fit:
    """The fit of that name. Raises ``PisaError`` that lists the names there are."""
    try:
        return Fit(name)
    except ValueError as error:
        raise PisaError(f"no fit named {name!r}; valid: {', '.join(Fit)}") from error


def _folder(path: Path, limits: Limits) -> Iterator[Frame]:
    paths = folder_frames(path)
    if len(paths) > limits.frames:
        raise PisaError(f"{path}: holds more than {limits.frames} frames (source.limits.frames)")
    for frame in paths:
        yield read_image(frame, limits.pixels_per_frame)


def _evened(
    path: Path,
    timed: list[tuple[Fraction, Frame]],
    tick_s: Fraction,
    expected_hz: float | None,
    given_hz: float | None,
) -> tuple[list[Frame], float]:
    """Frames at even times and their rate; a given rate takes the frames as they come."""
    frames = [frame for _, frame in timed]
    if given_hz is not None:
        return frames, given_hz
    times_s = [time_s for time_s, _ in timed]
    try:
        rate_hz = frame_rate_hz(times_s, tick_s, expected_hz)
    except ValueError as error:
        raise PisaError(f"{path}: {error}; set source.fps_hz to ignore them") from error
    if rate_hz is None:
        return frames, 0.0  # a single frame, refused by the caller
    return [frames[i] for i in even_indices(times_s, rate_hz)], rate_hz


class _Converter:
    """Crops and rescales frames; the first one decides the window, the others must agree."""

    def __init__(self, path: Path, size: tuple[int, int], fit: Fit) -> None:
        self.path, self.size, self.fit = path, size, fit
        self.native: tuple[int, int] = (0, 0)
        self.window: Window = (slice(0), slice(0))

    def __call__(self, frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        if self.native == (0, 0):
            self.native, self.window = (height, width), self._find(frame)
        if (height, width) != self.native:
            found, first = f"{width}x{height}", f"{self.native[1]}x{self.native[0]}"
            raise PisaError(f"{self.path}: the frame size changes inside: {first}, then {found} px")
        kept = frame[self.window]
        if kept.shape[:2] == self.size:
            return np.ascontiguousarray(kept)
        image = Image.fromarray(np.ascontiguousarray(kept))
        return np.asarray(image.resize((self.size[1], self.size[0])))

    def _find(self, frame: Frame) -> Window:
        height, width = frame.shape[:2]
        aspect = self.size[1] / self.size[0]
        window = content_window(frame, aspect)
        if window is not None:
            return window
        if self.fit is Fit.STRETCH:
            return slice(0, height), slice(0, width)
        if self.fit is Fit.CROP:
            return central_window(height, width, aspect)
        raise PisaError(
            f"{self.path}: {width}x{height} px without black borders does not fit the benchmark's "
            f"{self.size[1]}x{self.size[0]}; source.fit=stretch or crop allows it"
        )


NTSC = 0.0011  # 24000/1001 and the like count as the whole number they stand for


def frame_rate_hz(
    times_s: Sequence[Fraction], tick_s: Fraction, expected_hz: float | None = None
) -> float | None:
    """Mean rate of frames shown at ``times_s``, a clock of ``tick_s``; None for less than two.

    ``expected_hz`` (the benchmark's rate) is returned where it lies within what the clock can
    resolve; equal delays may each have been rounded. Otherwise rates within 0.11 % of a whole
    number are that number. Raises ``ValueError`` for times that do not increase.
    """
    if len(times_s) < 2:
        return None
    delays_s = [later - earlier for earlier, later in pairwise(times_s)]
    if min(delays_s) <= 0:
        raise ValueError("the times of the frames do not increase")
    measured = float(len(delays_s) / sum(delays_s))
    slack = max(NTSC, float(tick_s / sum(delays_s))) * measured
    each = float(tick_s / 2 / delays_s[0]) * measured if len(set(delays_s)) == 1 else 0.0
    if expected_hz is not None and abs(measured - expected_hz) <= max(slack, each):
        return float(expected_hz)
    whole = round(measured)
    near = whole and abs(measured - whole) <= NTSC * measured
    return float(whole) if near else measured


def even_indices(times_s: Sequence[Fraction], rate_hz: float) -> list[int]:
    """Which frame a display shows at ``i / rate_hz`` after the first one, one index per frame.

    That is ``0 ... T-1`` for frames within half a period of their even place; otherwise (a video
    of variable rate) frames repeat or drop out so that each stands at its true time.
    """
    since = [float(t - times_s[0]) for t in times_s]
    if all(abs(t - i / rate_hz) <= 0.5 / rate_hz for i, t in enumerate(since)):
        return list(range(len(since)))
    shown, current = [], 0
    for i in range(len(since)):
        while current + 1 < len(since) and since[current + 1] <= i / rate_hz + 1e-9:
            current += 1
        shown.append(current)
    return shown
