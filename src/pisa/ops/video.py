"""Colour conversion, resizing and video files (PyAV; torchvision has no video I/O any more)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pisa.errors import PisaError, reason
from pisa.io.files import replace_file


def to_uint8(video: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[-1, 1] to [0, 255], rounded to nearest; values outside are clamped, NaN becomes 0."""
    scaled = video.detach().float().add(1).mul_(127.5)  # in place: a long video is large
    return scaled.nan_to_num_(0.0).round_().clamp_(0, 255).to(torch.uint8)


def from_uint8(video: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """[0, 255] to [-1, 1] in float32; ``to_uint8`` is its exact inverse."""
    return video.div(127.5).sub_(1)


def to_frames(video: Float[Tensor, "3 t h w"]) -> NDArray[np.uint8]:
    """A clip in [-1, 1] as uint8 frames ``[T, H, W, 3]``, the layout of video and image files."""
    return rearrange(to_uint8(video), "c t h w -> t h w c").cpu().contiguous().numpy()


def from_frames(frames: NDArray[np.uint8]) -> Float[Tensor, "3 t h w"]:
    """Uint8 frames ``[T, H, W, 3]`` as a clip in [-1, 1]."""
    planes = rearrange(torch.from_numpy(frames), "t h w c -> c t h w").contiguous()
    return from_uint8(planes)


def resize(
    video: Float[Tensor, "*lead t h w"], height: int, width: int
) -> Float[Tensor, "*lead t i j"]:
    """Resize the last two axes: bilinear, antialiased; the value range is kept."""
    if video.shape[-2:] == (height, width):
        return video
    images = video.reshape(-1, 1, *video.shape[-2:])  # [lead * T, 1, H, W]
    small = functional.interpolate(
        images, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return small.reshape(*video.shape[:-2], height, width)


def write_mp4(path: Path, frames: NDArray[np.uint8], fps_hz: float) -> None:
    """Write uint8 RGB frames ``[T, H, W, 3]`` as H.264 (yuv420p; odd sizes repeat the last pixel).

    The file appears whole or not at all; parent folders are created.

    Raises ``PisaError`` when the file cannot be written, ``ValueError`` on other shapes or dtypes.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"write_mp4 needs uint8 [T, H, W, 3], got {frames.dtype} {frames.shape}")
    pad = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    frames = np.ascontiguousarray(np.pad(frames, pad, mode="edge"))
    with replace_file(path) as part, av.open(str(part), mode="w", format="mp4") as container:
        _encode(container, frames, Fraction(fps_hz).limit_denominator(1001))


def write_lossless(path: Path, frames: NDArray[np.uint8], fps_hz: float) -> None:
    """Write uint8 RGB frames ``[T, H, W, 3]`` bit by bit (FFV1 in Matroska); whole or not at all.

    Raises ``PisaError`` when the file cannot be written.
    """
    rate = Fraction(fps_hz).limit_denominator(1001)
    with replace_file(path) as part, av.open(str(part), mode="w", format="matroska") as container:
        stream: Any = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        stream.options = {"level": "3", "slicecrc": "1"}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _encode(container: Any, frames: NDArray[np.uint8], rate: Fraction) -> None:
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "16", "preset": "veryfast"}
    for frame in frames:
        for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)


def read_video(path: Path) -> tuple[NDArray[np.uint8], float]:
    """All frames of a video file as uint8 ``[T, H, W, 3]`` and its average rate in Hz.

    Raises ``PisaError`` naming the file when it is missing, broken or holds no video frame.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise PisaError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise PisaError(f"{path}: cannot read video: {reason(error)}") from error
    if not frames or not rate:
        raise PisaError(f"{path}: holds no video frame")
    if len({frame.shape for frame in frames}) > 1:
        raise PisaError(f"{path}: the frame size changes inside the video")
    return np.stack(frames), float(rate)
