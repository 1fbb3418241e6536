"""How far first frames are from their clip's, for videos that continue it and for others.

    python benchmarks/first_frames.py CLIPS [--num-clips 30]

CLIPS is a folder of clip folders. It chose ``pisa.bench.first_frame.LIMIT``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from pisa.bench.first_frame import LIMIT, difference
from pisa.data.clip_io import read_clip
from pisa.data.video_files import read_footage
from pisa.launch.targets import instantiate
from pisa.ops.video import from_frames, to_frames
from pisa.types import Clip


def resized(frames: np.ndarray, factor: float) -> np.ndarray:
    size = (round(frames.shape[2] * factor), round(frames.shape[1] * factor))
    return np.stack([np.asarray(Image.fromarray(f).resize(size)) for f in frames])


def h264(frames: np.ndarray, size: tuple[int, int], crf: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=16)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            stream.options = {"crf": str(crf)}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return read_footage(path, size).frames


def scaled(frames: np.ndarray, gain: float, offset: float) -> np.ndarray:
    return (frames * gain + offset).clip(0, 255).round().astype(np.uint8)


def ways(clips: list[Clip], i: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names that begin with + continue the clip."""
    frames = to_frames(clips[i].video[:, :8])
    size = frames.shape[1:3]
    for crf in (28, 40, 48):
        yield f"+ h264 crf {crf}", h264(frames, size, crf)
    yield "+ half size, h264 crf 35", h264(resized(frames, 0.5), size, 35)
    yield "+ four times the size, h264 crf 40", h264(resized(frames, 4), size, 40)
    yield "+ washed out (16..235)", scaled(frames, 219 / 255, 16)
    yield "+ crushed (reverse)", scaled(frames, 255 / 219, -16 * 255 / 219)
    yield "- mirrored", frames[:, :, ::-1]
    yield "- black", frames * 0
    yield "- fade-in at 40 %", scaled(frames, 0.4, 0)
    small = np.zeros_like(frames)
    top, kept = size[0] // 5, size[0] - 2 * (size[0] // 5)
    small[:, top : top + kept] = [
        np.asarray(Image.fromarray(f).resize((size[1], kept))) for f in frames
    ]
    yield "- letterbox inside", small
    yield "- upside down", frames[:, ::-1]
    for other in range(len(clips)):
        if other != i:
            yield "- another clip", to_frames(clips[other].video[:, :1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", type=Path)
    parser.add_argument("--num-clips", type=int, default=30)
    given = parser.parse_args()
    folders = sorted(p for p in given.clips.iterdir() if p.is_dir())[: given.num_clips]
    clips = [read_clip(folder, num_frames=16) for folder in folders]
    configs = Path(__file__).resolve().parents[1] / "configs"
    with initialize_config_dir(str(configs), version_base="1.3"):
        model = instantiate(compose("eval").model)
    coded: Callable[[Clip], torch.Tensor] = lambda clip: model.decode(  # noqa: E731
        model.encode(clip.video[None]), clip.video.shape[1]
    )[0].clamp(-1, 1)
    found: dict[str, list[float]] = {}
    for i, clip in enumerate(clips):
        first, masks = clip.video[:, 0], clip.masks[:, 0]
        with torch.no_grad():
            value = difference(first, coded(clip)[:, 0], masks)
        found.setdefault("+ the tiny model's codec", []).append(value)
        for name, frames in ways(clips, i):
            video = from_frames(np.ascontiguousarray(frames[:1]))
            found.setdefault(name, []).append(difference(first, video[:, 0], masks))
    print(f"{len(clips)} clips; limit {LIMIT:g}; least, median and largest difference of 255")
    for name, values in sorted(found.items()):
        over = sum(value > LIMIT for value in values)
        numbers = "  ".join(f"{np.quantile(values, q):6.1f}" for q in (0, 0.05, 0.5, 0.95, 1))
        print(f"{name:36} {numbers}   {over} of {len(values)} over the limit")


if __name__ == "__main__":
    main()
