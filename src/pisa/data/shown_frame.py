"""A decoded frame as a player shows it: pixel shape, orientation, colour range, HDR and alpha.

Every reader of videos goes through ``shown_frame``: benchmark videos and recordings alike.

HDR (transfer functions HLG and PQ, ITU-R BT.2100) is converted to SDR so that diffuse white, which
BT.2408 puts at 75 % of the HLG and 58 % of the PQ signal, becomes 255: the inverse transfer
function, BT.2020 to BT.709 primaries, clipping of highlights, and the inverse of a 2.4 display
gamma.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import Float, UInt8

BT2020 = 9  # code points of ITU-T H.273, as FFmpeg has them
UNSPECIFIED = 2
PQ, HLG = 16, 18
_SDR_GAMMA = 2.4
_HLG_WHITE = 0.265  # scene light at 75 % signal
_PQ_WHITE = 203 / 10_000
_TO_BT709 = np.array(  # linear light, rows give R, G, B
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
MAX_PIXEL_ASPECT = 4  # wilder pixel shapes are an error of the file


class UnshowableError(ValueError):
    """A frame that cannot be shown upright and square-pixelled; says why."""


def shown_size(frame: av.VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """(height, width) of the frame with square pixels, upright."""
    height, width = frame.height, round(frame.width * _checked(pixel_aspect))
    transposed, _, _ = orientation(frame)
    return (width, height) if transposed else (height, width)


def shown_frame(
    frame: av.VideoFrame, pixel_aspect: Fraction = Fraction(1), longest: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels as shown; transparency shows black.

    ``pixel_aspect`` is the width of a stored pixel over its height. ``longest`` scales the picture
    down so that its longer side has at most that many pixels.

    Raises ``UnshowableError`` for rotations by other than right angles and absurd pixel shapes.
    """
    size = _stored_size(frame, pixel_aspect, longest)
    if frame.color_trc in (PQ, HLG) or frame.color_primaries == BT2020:
        pixels = _to_sdr(_reformatted(frame, size, "rgb48le"), frame)
    elif any(component.is_alpha for component in frame.format.components):
        rgba = _reformatted(frame, size, "rgba").astype(np.uint16)
        pixels = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    else:
        pixels = _reformatted(frame, size, "rgb24")
    return _upright(pixels, frame)


def shown_grey(
    frame: av.VideoFrame, pixel_aspect: Fraction, longest: int
) -> UInt8[np.ndarray, "h w"]:
    """A small grey picture, each pixel the mean of what it covers; see ``shown_frame``."""
    size = _stored_size(frame, pixel_aspect, longest)
    grey = frame.to_ndarray(
        width=size[1], height=size[0], format="gray", interpolation=Interpolation.AREA
    )
    return _upright(grey, frame)


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip rows, then flip columns) from stored to shown pixels.

    From the display matrix ``x' = a x + c y, y' = b x + d y`` of the container.
    """
    entry: Any = frame.side_data.get("DISPLAYMATRIX")
    if entry is None:
        return False, False, False
    a, b, _, c, d = struct.unpack("<9i", bytes(entry)[:36])[:5]
    straight, turned = min(abs(a), abs(d)), min(abs(b), abs(c))
    if turned <= straight / 100 and straight:
        return False, d < 0, a < 0
    if straight <= turned / 100 and turned:
        return True, b < 0, c < 0
    raise UnshowableError(
        f"is rotated by {frame.rotation} degrees; only right angles can be shown: re-encode it"
    )


def _checked(pixel_aspect: Fraction) -> Fraction:
    if not 1 / MAX_PIXEL_ASPECT <= pixel_aspect <= MAX_PIXEL_ASPECT:
        raise UnshowableError(f"declares pixels of shape {pixel_aspect} (width over height)")
    return pixel_aspect


def _stored_size(
    frame: av.VideoFrame, pixel_aspect: Fraction, longest: int | None
) -> tuple[int, int]:
    height, width = frame.height, round(frame.width * _checked(pixel_aspect))
    scale = 1.0 if longest is None else min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _reformatted(frame: av.VideoFrame, size: tuple[int, int], name: str) -> np.ndarray:
    if size == (frame.height, frame.width):
        return frame.to_ndarray(format=name)
    scaled = frame.reformat(
        width=size[1], height=size[0], format=name, interpolation=Interpolation.BICUBIC
    )
    return scaled.to_ndarray()


def _upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    transposed, rows, columns = orientation(frame)
    if transposed:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def _to_sdr(signal: np.ndarray, frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """16-bit RGB of any transfer function to 8-bit BT.709 RGB."""
    light = _light_of(frame.color_trc)[signal]
    if frame.color_primaries in (BT2020, UNSPECIFIED):
        light = light @ _TO_BT709.T
    shown = np.clip(light, 0.0, 1.0) ** (1 / _SDR_GAMMA)
    return np.rint(shown * 255).astype(np.uint8)


def _light_of(transfer: int) -> Float[np.ndarray, "65536"]:
    """Linear light of every 16-bit signal value, 1 at diffuse white."""
    signal = np.arange(65536) / 65535
    if transfer == HLG:
        high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(signal <= 0.5, signal**2 / 3, high) / _HLG_WHITE
    elif transfer == PQ:
        root = signal ** (1 / 78.84375)
        light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        light = light ** (1 / 0.1593017578125) / _PQ_WHITE
    else:
        light = signal**_SDR_GAMMA
    return light.astype(np.float32)
