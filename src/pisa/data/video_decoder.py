"""Frames of a video file through PyAV, with what is declared checked against what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import UInt8

from pisa.data.image_files import check_pixels
from pisa.data.shown_frame import UnshowableError, shown_frame, shown_size
from pisa.errors import PisaError, reason

_DECODE_ERRORS = (
    av.FFmpegError,
    OSError,
    ValueError,
    LookupError,  # a broken index
    MemoryError,
    OverflowError,
)
_GIF_END = b"\x3b"


class Decoder:
    """Context manager and iterable of ``(time in s, uint8 frame [H, W, 3])``.

    Raises ``PisaError`` naming the file for what is missing, empty, broken, truncated or too large:
    more pixels per frame than ``max_pixels``, more frames than ``max_frames``. Frames are as shown
    (``pisa.data.shown_frame``). ``convert`` maps PyAV's frame and its pixel shape to something else
    (smaller pictures); ``threads`` decodes on several cores.
    """

    def __init__(
        self,
        path: Path,
        max_pixels: int,
        max_frames: int,
        convert: Callable[[av.VideoFrame, Fraction], Any] | None = None,
        threads: bool = False,
    ) -> None:
        self.path, self.max_pixels, self.max_frames = path, max_pixels, max_frames
        self.convert, self.threads = convert, threads
        self.tick_s, self.pixel_aspect = Fraction(1, 1000), Fraction(1)
        self._container: InputContainer | None = None

    def __enter__(self) -> Decoder:
        try:
            self._container = av.open(str(self.path), mode="r")
        except _DECODE_ERRORS as error:
            raise self._broken(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._container is not None:
            self._container.close()

    def __iter__(self) -> Iterator[tuple[Fraction, UInt8[np.ndarray, "h w 3"]]]:
        stream = self._stream()
        end_s, count = Fraction(0), 0
        try:
            for frame in self._decoded(stream):
                if count == self.max_frames:
                    raise PisaError(
                        f"{self.path}: holds more than {count} frames (source.limits.frames)"
                    )
                time_s = self._time_s(frame, stream, count)
                yield time_s, self._pixels(frame)
                count, end_s = count + 1, time_s + self._shown_s(frame, stream)
        except _DECODE_ERRORS as error:
            raise self._broken(error) from error
        self._check_complete(stream, count, end_s)

    def _decoded(self, stream: Any) -> Iterator[av.VideoFrame]:
        """Frames in order; ``_hidden`` counts packets that an edit list hides."""
        assert self._container is not None
        self._packets = self._hidden = 0
        for packet in self._container.demux(stream):
            self._packets += bool(packet.size)
            self._hidden += packet.is_discard
            yield from packet.decode()

    def _stream(self) -> Any:
        """The video stream that is no cover picture, its declared frame size within the limit."""
        assert self._container is not None
        stream = moving_stream(self._container)
        if stream is None:
            raise PisaError(f"{self.path}: holds no video stream")
        self.tick_s = stream.time_base or self.tick_s
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        context = stream.codec_context
        if context is None:
            raise PisaError(f"{self.path}: cannot read video: its codec is unknown")
        if context.width and context.height:  # GIF says so only later
            check_pixels(context.width, context.height, self.max_pixels, self.path)
        context.options = {"max_pixels": str(self.max_pixels)}
        if self.threads:
            stream.thread_type = "AUTO"
        if stream.frames > self.max_frames:
            raise PisaError(
                f"{self.path}: declares {stream.frames} frames, more than the limit of "
                f"{self.max_frames} (source.limits.frames)"
            )
        return stream

    def _time_s(self, frame: Any, stream: Any, count: int) -> Fraction:
        if frame.pts is not None:
            return frame.pts * self.tick_s
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise PisaError(f"{self.path}: its frames have no times; set source.fps_hz")
        return count / Fraction(rate)

    def _shown_s(self, frame: Any, stream: Any) -> Fraction:
        """How long a frame is shown; the mean where the file does not say."""
        if frame.duration:
            return frame.duration * self.tick_s
        rate = stream.average_rate or stream.guessed_rate
        return 1 / Fraction(rate) if rate else Fraction(0)

    def _pixels(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        if frame.is_corrupt:
            raise PisaError(f"{self.path}: cannot read video: a frame is damaged")
        check_pixels(frame.width, frame.height, self.max_pixels, self.path)
        try:
            height, width = shown_size(frame, self.pixel_aspect)
            check_pixels(width, height, self.max_pixels, self.path)
            return (self.convert or shown_frame)(frame, self.pixel_aspect)
        except UnshowableError as error:
            raise PisaError(f"{self.path}: {error}") from error

    def _check_complete(self, stream: Any, count: int, end_s: Fraction) -> None:
        """A file cut short: fewer frames, or less time, than its header says."""
        assert self._container is not None
        if count == 0:
            raise PisaError(f"{self.path}: holds no video frame")
        if stream.codec_context.name == "gif" and not self._ends_as_gif():
            raise PisaError(f"{self.path}: is truncated: the end of the GIF is missing")
        declared_s = self._declared_s(stream)
        slack_s = max(end_s / count * 3 / 4, 2 * self.tick_s)
        ends_early = declared_s is not None and end_s + slack_s < declared_s
        # An edit list (a trim on the phone) hides frames that the header counts.
        whole = declared_s is not None and not ends_early and count >= self._packets - self._hidden
        if count < stream.frames and not whole:
            raise PisaError(f"{self.path}: is truncated: {count} of {stream.frames} frames")
        if ends_early:
            raise PisaError(
                f"{self.path}: is truncated: ends after {float(end_s):.2f} of "
                f"{float(declared_s or 0):.2f} s"
            )

    def _declared_s(self, stream: Any) -> Fraction | None:
        """Length of the video in the header; None where sound may be longer than the picture."""
        assert self._container is not None
        if stream.duration is not None:
            return (stream.start_time or 0) * self.tick_s + stream.duration * self.tick_s
        if self._container.duration is None or len(self._container.streams) > 1:
            return None
        start = self._container.start_time or 0
        return Fraction(start + self._container.duration, av.time_base)

    def _ends_as_gif(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 64))
            return file.read().rstrip(b"\x00\r\n ").endswith(_GIF_END)

    def _broken(self, error: Exception) -> PisaError:
        if isinstance(error, LookupError) and not isinstance(error, av.FFmpegError):
            return PisaError(f"{self.path}: cannot read video: its index is broken")
        return PisaError(f"{self.path}: cannot read video: {reason(error)}")


def moving_stream(container: InputContainer) -> Any:
    """The first video stream that is no cover picture or thumbnail; None where there is none."""
    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    moving = (s for s in container.streams.video if not s.disposition & still)
    return next(moving, None)
