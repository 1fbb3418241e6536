"""Masks of a clip's objects from points or masks in any frame, with few frames in memory.

A prompt in a later frame restarts the tracker of its object there: from there on the new masks
count, the frames before keep theirs. So a correction works alike for every tracker and needs a
positive point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image

from pisa.annotate.motion import Crop
from pisa.annotate.point_masks import masks_from_points
from pisa.annotate.recording import Progress
from pisa.annotate.store import ClipDraft, ObjectDraft
from pisa.data.image_files import frame_paths, read_frames
from pisa.data.mask_files import resize_masks
from pisa.data.mask_video import MaskVideo
from pisa.errors import PisaError
from pisa.ops.video import from_frames
from pisa.perception.base import (
    PointTracker,
    Prompt,
    Tracker,
    TrackingSession,
    WindowTracker,
)
from pisa.types import ObjectPoints

WINDOW = 8  # frames in memory at a time, and between two steps of the progress bar

Prompts = Mapping[int, Mapping[int, ObjectPoints | Bool[np.ndarray, "h w"]]]
"""{frame: {object: its points or mask there}}; from its frame on, a prompt replaces older ones."""


class ClipTracker:
    """Tracks clicked objects through the frames of a clip.

    ``size`` (height, width) is what the tracker sees. A tracker that takes no points gets a mask
    made from them (``masks_from_points``).
    """

    def __init__(
        self, tracker: WindowTracker, size: tuple[int, int], device: torch.device | str
    ) -> None:
        self.tracker, self.size, self.device = tracker, size, device

    def track(
        self, folder: Path, clip: ClipDraft, progress: Progress = lambda _: None
    ) -> Bool[np.ndarray, "t n i j"]:
        """Masks ``[T, N, H, W]`` for the frames in ``folder``, at ``size`` or theirs if smaller.

        Raises ``PisaError`` where an object has no positive point, and for one of which nothing is
        found in the frame of its points.
        """
        paths = frame_paths(folder)
        with Image.open(paths[0]) as first:
            size = (min(self.size[0], first.height), min(self.size[1], first.width))
        starts = sorted({0, *(c.frame for o in clip.objects for c in o.clicks)})
        prompts = {s: _objects_at(clip, s, self.size) for s in starts if s < len(paths)}
        masks = np.empty((len(paths), len(clip.objects), *size), dtype=bool)
        done = 0
        for found in self._run(paths, prompts, len(clip.objects)):
            masks[done : done + len(found)] = resize_masks(found, *size)
            done += len(found)
            progress(done / len(paths))
        return masks

    def preview(self, folder: Path, clip: ClipDraft, frame: int = 0) -> Bool[np.ndarray, "n i j"]:
        """Masks in one frame, of the objects that have points there (others empty)."""
        prompts = {0: _objects_at(clip, frame, self.size, some=True)}
        shown = frame_paths(folder)[frame : frame + 1]
        return next(self._run(shown, prompts, len(clip.objects)))[0]

    def _run(
        self, paths: list[Path], prompts: Prompts, num_objects: int
    ) -> Iterator[Bool[np.ndarray, "u n i j"]]:
        windows = frame_windows(paths, self.size)
        return track_windows(
            self.tracker, windows, prompts, num_objects, len(paths), device=self.device
        )


def as_window_tracker(tracker: Tracker) -> WindowTracker:
    """The tracker itself. Raises ``PisaError`` for one that cannot track in windows."""
    if not isinstance(tracker, WindowTracker):
        raise PisaError(
            f"{type(tracker).__name__} cannot track in windows (it has no method session): use "
            "perception=pretrained, sam3 or embedded"
        )
    return tracker


def mask_prompts(video: MaskVideo, num_frames: int, size: tuple[int, int]) -> Prompts:
    """Each object's first mask as its prompt, for a video of ``num_frames`` of ``size``.

    Raises ``PisaError`` for masks of another size or of frames beyond the end, and for an object
    without a mask.
    """
    if video.size != size:
        raise PisaError(
            f"{video.name}: its masks are {video.size[1]}x{video.size[0]} px, "
            f"the frames {size[1]}x{size[0]}"
        )
    prompts: dict[int, dict[int, NDArray[np.bool_]]] = {}
    for index, name in enumerate(video.objects):
        seen = np.flatnonzero(video.masks[:, index].any(axis=(1, 2)))
        if not len(seen):
            raise PisaError(f"{video.name}: object {index + 1} ({name}) has no mask")
        frame = video.frames[seen[0]]
        if frame >= num_frames:
            raise PisaError(f"{video.name}: has a mask in frame {frame} of {num_frames} frames")
        prompts.setdefault(frame, {})[index] = video.masks[seen[0], index]
    return prompts


def frame_windows(
    paths: Sequence[Path], size: tuple[int, int] | None = None
) -> Iterator[UInt8[np.ndarray, "u h w 3"]]:
    """The frames of a clip, ``WINDOW`` at a time. Raises ``PisaError`` if they differ in size."""
    shape = None
    for begin in range(0, len(paths), WINDOW):
        frames, native = read_frames(paths[begin : begin + WINDOW], size)
        shape = shape or native
        if native != shape:
            raise PisaError(
                f"{paths[begin]}: is {native[1]}x{native[0]} px, "
                f"but {paths[0].name} is {shape[1]}x{shape[0]}"
            )
        yield frames


def track_windows(
    tracker: WindowTracker,
    windows: Iterable[UInt8[np.ndarray, "u h w 3"]],
    prompts: Prompts,
    num_objects: int,
    num_frames: int,
    *,
    device: torch.device | str = "cpu",
) -> Iterator[Bool[np.ndarray, "u n h w"]]:
    """Masks of a clip window by window, the same as of the whole clip at once.

    An object is absent before its first prompt. Masks in ``prompts`` are rescaled to the frames'
    size. Raises ``PisaError`` for a prompt at which nothing is found.
    """
    runs: list[tuple[int, list[int], TrackingSession]] = []
    begin = 0
    for window in windows:
        stop = begin + len(window)
        for frame in range(begin, stop):
            if given := prompts.get(frame):
                prompt = _prompt(tracker, window[frame - begin], list(given.values()), device)
                runs.append((frame, list(given), tracker.session(prompt, num_frames - frame)))
        video = from_frames(window).to(device)
        masks = np.zeros((len(window), num_objects, *window.shape[1:3]), dtype=bool)
        for frame, objects, session in runs:  # later prompts overwrite earlier ones
            at = max(frame - begin, 0)
            with torch.no_grad():
                found = (session.segment(video[:, at:]) > 0).cpu().numpy()
            if frame >= begin and not found[:, 0].any(axis=(1, 2)).all():
                lost = objects[int(found[:, 0].any(axis=(1, 2)).argmin())]
                raise PisaError(
                    f"the tracker finds nothing at the prompt of object {lost + 1} in frame {frame}"
                )
            masks[at:, objects] = found.swapaxes(0, 1)
        yield masks
        begin = stop


def _prompt(
    tracker: WindowTracker,
    frame: UInt8[np.ndarray, "h w 3"],
    given: Sequence[ObjectPoints | Bool[np.ndarray, "h w"]],
    device: torch.device | str,
) -> Prompt:
    """All points or all masks of a frame's prompts, as the tracker takes them."""
    points = [entry for entry in given if isinstance(entry, ObjectPoints)]
    if points and isinstance(tracker, PointTracker):
        return points
    if points:
        masks = masks_from_points(frame, points)
    else:
        arrays = [entry for entry in given if not isinstance(entry, ObjectPoints)]
        masks = resize_masks(np.stack(arrays)[None], *frame.shape[:2])[0]
    return torch.from_numpy(masks).to(device)


def to_clip_px(x: float, y: float, crop: Crop, side: float) -> tuple[float, float]:
    """A place in the recording as a place in the clip's frames (pixel centres at integers)."""
    scale = side / crop.side
    return (x - crop.left + 0.5) * scale - 0.5, (y - crop.top + 0.5) * scale - 0.5


def object_points(entry: ObjectDraft, frame: int, crop: Crop, side: float) -> ObjectPoints:
    """The clicks of one frame as points in the clip's frames."""
    here = [c for c in entry.clicks if c.frame == frame]
    return ObjectPoints(
        tuple(to_clip_px(c.x, c.y, crop, side) for c in here if c.positive),
        tuple(to_clip_px(c.x, c.y, crop, side) for c in here if not c.positive),
    )


def _objects_at(
    clip: ClipDraft, frame: int, size: tuple[int, int], some: bool = False
) -> dict[int, ObjectPoints]:
    """Objects with points in a frame; in frame 0 all must have some, unless ``some`` will do."""
    if size[0] != size[1]:
        raise PisaError("the tracker must see square frames: size=[S, S]")
    wanted = {}
    for index, entry in enumerate(clip.objects):
        points = object_points(entry, frame, clip.crop, size[0])
        if points.positive:
            wanted[index] = points
        elif points.negative:
            raise PisaError(
                f"object {index + 1} has only negative points in frame {frame}; add one on it"
            )
        elif frame == 0 and not some:
            raise PisaError(f"object {index + 1} has no point in the first frame")
    return wanted


def seen_size(tracker: Any, given: Sequence[int] | None) -> tuple[int, int]:
    """Frame size of a tracker: as given, SAM 2's own, or the embedded tracker's 64x64."""
    if given is not None:
        return int(given[0]), int(given[1])
    side = getattr(getattr(tracker, "network", None), "image_size", 64)
    return int(side), int(side)
