"""Masks of a clip's objects from clicks, with progress, and corrections on any frame.

A correction restarts the tracker of its object at its frame: from there on the new masks count, the
frames before keep theirs. So it works alike for every tracker and needs a positive point.

A tracker that takes no points gets a first mask made from them. From each positive point the region
of similar colour grows as the tolerance does; the tolerance whose region has the steepest edge
around it wins. Colours nearer to a negative point, or to a point on another object, don't count as
similar; where both colours are alike, the nearer point decides. An object of several colours needs
a point on each. SAM 2 does better (docs/guide/annotate.md has the accuracy).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation, binary_fill_holes, label, sobel
from torch import nn

from pisa.annotate.motion import Crop
from pisa.annotate.recording import Progress
from pisa.annotate.store import ClipDraft, ObjectDraft
from pisa.data.image_files import frame_paths, read_frames
from pisa.errors import PisaError
from pisa.ops.video import from_frames
from pisa.perception.base import PointTracker, Tracker
from pisa.types import ObjectPoints

CHUNK = 32  # frames between two steps of the progress bar


class ClipTracker:
    """Tracks clicked objects through the frames of a clip.

    ``size`` (height, width) is what the tracker sees. A tracker that takes no points gets a mask
    made from them (``masks_from_points``); it must treat frames one by one, as the embedded
    one does, because it is given a few at a time.
    """

    def __init__(
        self, tracker: PointTracker | Tracker, size: tuple[int, int], device: torch.device | str
    ) -> None:
        self.tracker, self.size, self.device = tracker, size, device

    def track(
        self, folder: Path, clip: ClipDraft, progress: Progress = lambda _: None
    ) -> Bool[np.ndarray, "t n i j"]:
        """Masks ``[T, N, H, W]`` at ``size`` for the frames in ``folder``.

        Raises ``PisaError`` where an object has no positive point, and for one of which nothing is
        found in the frame of its points.
        """
        frames, _ = read_frames(frame_paths(folder), self.size)
        starts = sorted({0, *(c.frame for o in clip.objects for c in o.clicks)})
        masks = np.zeros((len(frames), len(clip.objects), *self.size), dtype=bool)
        runs = [(s, _objects_at(clip, s, self.size)) for s in starts if s < len(frames)]
        for done, (start, wanted) in enumerate(runs):
            part = _part_of(progress, done, len(runs))
            found = self._run(frames[start:], list(wanted.values()), part)
            for index, (which, mask) in enumerate(zip(wanted, found, strict=True)):
                if not mask[0].any():
                    raise PisaError(f"nothing is found at the points of object {which + 1}")
                masks[start:, which] = found[index]
        return masks

    def preview(self, folder: Path, clip: ClipDraft, frame: int = 0) -> Bool[np.ndarray, "n i j"]:
        """Masks in one frame, of the objects that have points there (others empty)."""
        frames, _ = read_frames(frame_paths(folder)[frame : frame + 1], self.size)
        masks = np.zeros((len(clip.objects), *self.size), dtype=bool)
        wanted = _objects_at(clip, frame, self.size, some=True)
        if wanted:
            found = self._run(frames, list(wanted.values()), lambda _: None)
            masks[list(wanted)] = found[:, 0]
        return masks

    def _run(
        self, frames: UInt8[np.ndarray, "t h w 3"], objects: list[ObjectPoints], progress: Progress
    ) -> Bool[np.ndarray, "n t h w"]:
        with torch.no_grad():
            if isinstance(self.tracker, PointTracker):
                with _encoded_frames(self.tracker, len(frames), progress):
                    video = from_frames(frames).to(self.device)
                    return (self.tracker.segment_points(video, objects) > 0).cpu().numpy()
            return self._run_from_masks(frames, masks_from_points(frames[0], objects), progress)

    def _run_from_masks(
        self,
        frames: UInt8[np.ndarray, "t h w 3"],
        first: Bool[np.ndarray, "n h w"],
        progress: Progress,
    ) -> Bool[np.ndarray, "n t h w"]:
        assert isinstance(self.tracker, Tracker)
        prompt = torch.from_numpy(first)[None].to(self.device)
        parts = [first[:, None]]
        for begin in range(1, len(frames), CHUNK):
            shown = np.concatenate([frames[:1], frames[begin : begin + CHUNK]])
            logits = self.tracker.segment(from_frames(shown)[None].to(self.device), prompt)
            parts.append((logits[0, :, 1:] > 0).cpu().numpy())
            progress(min(1.0, (begin + CHUNK) / len(frames)))
        return np.concatenate(parts, axis=1)


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


def _part_of(progress: Progress, done: int, count: int) -> Progress:
    return lambda fraction: progress((done + fraction) / count)


@contextmanager
def _encoded_frames(tracker: Any, count: int, progress: Progress) -> Iterator[None]:
    """Progress of SAM 2 by its image encoder, which sees every frame once and takes most time."""
    encoder = getattr(getattr(tracker, "network", None), "image_encoder", None)
    if not isinstance(encoder, nn.Module):
        yield
        return
    seen = 0

    def count_frame(*_: object) -> None:
        nonlocal seen
        seen += 1
        progress(min(1.0, seen / count))

    handle = encoder.register_forward_hook(count_frame)
    try:
        yield
    finally:
        handle.remove()


def seen_size(tracker: Any, given: Sequence[int] | None) -> tuple[int, int]:
    """Frame size of a tracker: as given, SAM 2's own, or the embedded tracker's 64x64."""
    if given is not None:
        return int(given[0]), int(given[1])
    side = getattr(getattr(tracker, "network", None), "image_size", 64)
    return int(side), int(side)


_TOLERANCES = range(6, 120, 3)  # grey levels
_LARGEST = 0.35  # of the picture; more is the background
_SMALLEST_PX = 6
_BRIGHTNESS = 0.52  # its weight beside that of colour: shading changes it
_ALIKE = 6.0  # grey levels; colours closer than this don't tell two objects apart

Points = Sequence[tuple[float, float]]


def masks_from_points(
    picture: UInt8[np.ndarray, "h w 3"], objects: Sequence[ObjectPoints]
) -> Bool[np.ndarray, "n h w"]:
    """One mask per object; points (x, y) in pixels of the picture.

    Raises ``PisaError`` for a point outside of the picture.
    """
    edges = _edges(picture)
    found = []
    for index, entry in enumerate(objects):
        others = [p for i, other in enumerate(objects) if i != index for p in other.positive]
        distance = _distance(picture, entry.positive)
        away = [*entry.negative, *others]
        if away:
            distance[_is_of_others(picture, distance, entry.positive, away)] = np.inf
        found.append(_best_region(distance, edges, entry.positive))
    return np.stack(found)


def _is_of_others(
    picture: UInt8[np.ndarray, "h w 3"],
    distance: Float[np.ndarray, "h w"],
    points: Points,
    away: Points,
) -> Bool[np.ndarray, "h w"]:
    """Pixels more like ``away`` than ``points``, in place where the colours are alike."""
    difference = _distance(picture, away) - distance
    nearer = _separation_px(distance.shape, away) < _separation_px(distance.shape, points)
    return (difference <= -_ALIKE) | ((difference < _ALIKE) & nearer)


def _separation_px(shape: tuple[int, ...], points: Points) -> Float[np.ndarray, "h w"]:
    """From each pixel to the nearest of the points."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.min([np.hypot(columns - x, rows - y) for x, y in points], axis=0)


def _best_region(
    distance: Float[np.ndarray, "h w"], edges: Float[np.ndarray, "h w"], points: Points
) -> Bool[np.ndarray, "h w"]:
    best, steepest = _dots(distance.shape, points), -1.0
    for tolerance in _TOLERANCES:
        parts, _ = label(distance < tolerance)
        touched = {int(parts[round(y), round(x)]) for x, y in points} - {0}
        region = binary_fill_holes(np.isin(parts, list(touched)))
        if region.mean() > _LARGEST:
            break
        if region.sum() < _SMALLEST_PX:
            continue
        outer = binary_dilation(region) & ~region
        inner = region & binary_dilation(~region)
        steep = float(edges[outer].mean() + edges[inner].mean())
        if steep > steepest:
            best, steepest = region, steep
    return best


def _distance(picture: UInt8[np.ndarray, "h w 3"], points: Points) -> Float[np.ndarray, "h w"]:
    """To the nearest of the points' colours (medians of 3x3); brightness counts less."""
    colours = picture.astype(np.float64)
    nearest = np.full(picture.shape[:2], np.inf)
    for x, y in points:
        row, column = round(y), round(x)
        if not (0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]):
            raise PisaError("a point lies outside of the crop; move the crop or the point")
        around = colours[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        off = colours - np.median(around.reshape(-1, 3), axis=0)  # robust at an edge
        brightness = off.mean(axis=-1)
        hue = ((off - brightness[..., None]) ** 2).sum(axis=-1)
        nearest = np.minimum(nearest, np.sqrt((_BRIGHTNESS * brightness) ** 2 + hue))
    return nearest


def _edges(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    channels = [picture[..., c].astype(np.float64) for c in range(3)]
    return np.sqrt(sum(sobel(c, axis) ** 2 for c in channels for axis in (0, 1)))


def _dots(shape: tuple[int, ...], points: Points) -> Bool[np.ndarray, "h w"]:
    """3x3 pixels at each point: used where no region has a clear edge."""
    mask = np.zeros(shape, dtype=bool)
    for x, y in points:
        row, column = round(y), round(x)
        mask[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
    return mask
