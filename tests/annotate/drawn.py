"""A drawn recording: a disk hangs still, falls from rest, lies still; then the next drop."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 120
SIZE = (240, 320)  # height, width
RELEASES = (45, 240)  # the last frame in which the disk hangs still
REACHED = 185  # the disk is lifted from here on, for the second drop
NUM_FRAMES = 340
TOP, FLOOR = 40.0, 190.0  # of the disk's centre
RADIUS = 14
GRAVITY_PX = 0.09  # px / frame^2: the fall takes 58 frames; 240 px are 1.8 m
X = (130, 190)  # of the two drops


@dataclass(frozen=True)
class Drawn:
    frames: np.ndarray  # uint8 [T, H, W, 3]
    disk: np.ndarray  # bool [T, H, W]

    @property
    def grid(self) -> np.ndarray:
        """Grey means of 4x4 pixels, uint8 [T, H / 4, W / 4]."""
        green = self.frames[..., 1]
        blocks = green.reshape(len(green), SIZE[0] // 4, 4, SIZE[1] // 4, 4)
        return blocks.mean(axis=(2, 4), dtype=np.float32).astype(np.uint8)


def height_px(frame: int) -> float:
    release = RELEASES[1] if frame >= REACHED else RELEASES[0]
    t = max(0, frame - release)
    return min(FLOOR, TOP + GRAVITY_PX * t**2 / 2)


def draw(shake_px: float = 0.0, num_frames: int = NUM_FRAMES) -> Drawn:
    """With ``shake_px`` the camera swings sideways."""
    noise = np.random.default_rng(0).normal(0, 1.5, (5, *SIZE, 1)).astype(np.float32)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1] + 20]
    wall = 120 + 25 * np.sin(columns / 9) * np.cos(rows / 13)
    background = np.stack([wall, wall + 10, wall + 30], axis=-1).astype(np.float32)
    background[205:] = (90, 70, 60)
    background[170:205, 40:75] = (40, 150, 70)  # a block at rest
    frames, disks = [], []
    grid_y, grid_x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    for k in range(num_frames):
        x = X[1] if k >= REACHED else X[0]
        shift = 8 + round(shake_px * np.sin(k / 15))
        picture = background[:, shift : shift + SIZE[1]] + noise[k % 5]
        disk = (grid_y - height_px(k)) ** 2 + (grid_x - x) ** 2 < RADIUS**2
        picture[disk] = (220, 60, 40)
        frames.append(picture.clip(0, 255).astype(np.uint8))
        disks.append(disk)
    return Drawn(np.stack(frames), np.stack(disks))


def write(
    path: Path,
    frames: np.ndarray,
    rate: int = FPS,
    times: list[int] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """H.264; ``times`` in milliseconds make the rate variable."""
    options = {"movflags": "use_metadata_tags"} if tags else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for k, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_rotation(path: Path) -> None:
    """Give an mp4 the display matrix of a phone held upright: shown turned by 90 degrees."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(bytes(data))
