"""Masks of objects through a video of any length, from their masks in one of its frames.

  pisa track fall.mov masks.npz --prompt first.json
  pisa masks convert masks.npz fall.xml --format cvat

The prompt is a file of masks in any format of `pisa masks`: the first mask of each object begins
its track, in whatever frame it is. A few frames are in memory at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from rich.progress import track

from pisa.annotate.tracking import (
    WINDOW,
    as_window_tracker,
    mask_prompts,
    seen_size,
    track_windows,
)
from pisa.data.mask_convert import read_mask_video
from pisa.data.mask_files import write_mask_file
from pisa.data.shown_frame import shown_size
from pisa.data.video_decoder import Decoder
from pisa.data.video_files import Limits
from pisa.errors import PisaError
from pisa.launch.compose import compose_annotate, composed
from pisa.launch.runs import build_tracker
from pisa.ops.devices import pick_device
from pisa.perception.base import PointTracker, WindowTracker

LIMITS = Limits()


def track_video(
    video: Path,
    out: Path,
    prompt: Path,
    tracker: WindowTracker,
    *,
    size: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[int, int]:
    """Write the masks of all frames at the video's size to ``out``, an ``.npz``.

    ``size`` (height, width) is what the tracker sees; None: the video's own. Returns the numbers of
    frames and objects. Raises ``PisaError`` for a video or prompt that cannot be read, or masks
    that don't fit the video.
    """
    if out.suffix != ".npz":
        raise PisaError(f"{out}: masks are written as .npz (pisa masks converts them)")
    times_s, native = scan(video)  # a damaged file is found before the hours of tracking
    given = read_mask_video(prompt)
    prompts, num_objects = mask_prompts(given, len(times_s), native), len(given.objects)
    windows = video_windows(video, size)
    found = track_windows(tracker, windows, prompts, num_objects, len(times_s), device=device)
    masks = track((m for w in found for m in w), "tracking", len(times_s), transient=True)
    extra = {
        "frame": np.arange(len(times_s)),
        "time_s": np.array(times_s),
        "object": np.array(given.objects),
    }
    write_mask_file(out, masks, (len(times_s), num_objects, *native), extra)
    return len(times_s), num_objects


def scan(video: Path) -> tuple[list[float], tuple[int, int]]:
    """Times of all frames in s and their size (height, width), by decoding the file once."""
    with Decoder(video, LIMITS.pixels_per_frame, LIMITS.frames, shown_size, threads=True) as frames:
        found = list(frames)
    sizes = {(int(size[0]), int(size[1])) for _, size in found}
    if len(sizes) > 1:
        raise PisaError(f"{video}: the frame size changes inside: {sorted(sizes)}")
    return [float(time_s - found[0][0]) for time_s, _ in found], sizes.pop()


def video_windows(
    video: Path, size: tuple[int, int] | None = None
) -> Iterator[UInt8[np.ndarray, "u h w 3"]]:
    """Frames of a video file, a window at a time."""
    window: list[UInt8[np.ndarray, "h w 3"]] = []
    with Decoder(video, LIMITS.pixels_per_frame, LIMITS.frames) as frames:
        for _, frame in frames:
            picture = Image.fromarray(frame)
            window.append(np.asarray(picture if size is None else picture.resize(size[::-1])))
            if len(window) == WINDOW:
                yield np.stack(window)
                window = []
    if window:
        yield np.stack(window)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, help="a video file")
    parser.add_argument("out", type=Path, help="masks.npz")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as annotate.py takes them"
    )
    parser.add_argument("--prompt", type=Path, required=True, help="masks of the objects")
    parser.add_argument(
        "--perception", default="pretrained", help="pretrained (SAM 2), sam3, embedded"
    )


def main(given: argparse.Namespace) -> None:
    cfg = composed("annotate", [f"perception={given.perception}", *given.overrides])
    cfg.path = str(given.video)
    run = compose_annotate(cfg)
    device = pick_device(run.settings.device)
    tracker = as_window_tracker(build_tracker(run.tracker, device))
    size = run.settings.size
    if size is None and not isinstance(tracker, PointTracker):  # knows pictures of one size only
        size = seen_size(tracker, None)
    frames, objects = track_video(
        given.video, given.out, given.prompt, tracker, size=size, device=device
    )
    print(f"{given.out}: {objects} objects in {frames} frames")
