"""``annotate.py``: the page for one's own recordings, or masks of clips from their points."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.progress import track

from pisa.annotate.tracking import (
    ClipTracker,
    Prompts,
    as_window_tracker,
    frame_windows,
    mask_prompts,
    seen_size,
    track_windows,
)
from pisa.annotate.workspace import Workspace
from pisa.data.clip_info import parse_points, read_info, scale_points
from pisa.data.image_files import frame_paths
from pisa.data.mask_convert import read_mask_video
from pisa.data.mask_files import write_mask_file
from pisa.data.video_files import VIDEO_SUFFIXES
from pisa.errors import IncompleteError, PisaError
from pisa.launch.runs import AnnotateRun, build_tracker
from pisa.ops.devices import pick_device
from pisa.perception.base import PointTracker, WindowTracker

POINTS = "points"  # of AnnotateSettings.prompt
WITHOUT_POINTS = (
    "This tracker takes no points: a first mask is grown from yours, over like colours up to the "
    "steepest edge, in 64x64 pixels, and followed from there. It was trained on simulated clips; "
    "SAM 2 (perception=pretrained) is what the paper uses."
)


def annotate(run: AnnotateRun) -> None:
    """Open the page for the recordings in ``run.path``, or make the masks of its clips."""
    serve = run.settings.serve
    if holds_recordings(run.path) if serve is None else serve:
        serve_page(run)
    else:
        make_masks(run)


def holds_recordings(folder: Path) -> bool:
    """Whether a folder has video files in it; a folder of clips has none."""
    if not folder.is_dir():
        return False
    return any(p.suffix.lower() in VIDEO_SUFFIXES for p in folder.glob("[!.]*"))


def serve_page(run: AnnotateRun) -> None:
    """The local page; returns when it is interrupted."""
    try:
        from pisa.annotate.page.server import serve  # making masks needs no web server
    except ModuleNotFoundError as error:
        if error.name not in ("nicegui", "fastapi", "starlette"):  # NiceGUI brings the others
            raise
        raise PisaError("the page needs NiceGUI: pip install 'pisa-lab[annotate]'") from error

    settings, maker = run.settings, run.tracker.target
    takes_points = hasattr(getattr(maker, "__self__", maker), "segment_points")
    device = pick_device(settings.device)

    def make_tracker() -> ClipTracker:
        tracker = as_window_tracker(build_tracker(run.tracker, device))
        return ClipTracker(tracker, seen_size(tracker, settings.size), device)

    workspace = Workspace(run.path, make_tracker, settings.clip_size)
    serve(workspace, settings.port, settings.show, "" if takes_points else WITHOUT_POINTS)


def make_masks(run: AnnotateRun) -> None:
    """Write ``mask.npz`` beside the frames of every clip of ``run.path`` that has none.

    Raises ``PisaError`` for a tracker that takes no points, ``IncompleteError`` where clips failed:
    each is named, after the others are done.
    """
    clips, device = clip_folders(run.path), pick_device(run.settings.device)
    tracker = as_window_tracker(build_tracker(run.tracker, device))
    masks = None if run.settings.prompt == POINTS else run.settings.prompt
    if masks is None and not isinstance(tracker, PointTracker):
        name = type(tracker).__name__
        raise PisaError(
            f"{name} takes no points; use perception=pretrained (SAM 2), or prompt=FILE with masks"
        )
    todo = [clip for clip in clips if run.settings.overwrite or not has_masks(clip)]
    failed = []
    for clip in track(todo, "annotating clips", transient=True):
        try:
            annotate_clip(clip, tracker, run.settings.size, device, masks)
        except PisaError as error:
            failed.append(clip.name)
            print(f"failed: {clip.name}: {' '.join(str(error).split())}", file=sys.stderr)
    print(f"annotated {len(todo) - len(failed)} clips; {len(clips) - len(todo)} had masks already")
    if failed:
        raise IncompleteError(f"{len(failed)} of {len(todo)} clips have no masks: {failed[0]} ...")


def clip_folders(path: Path) -> list[Path]:
    """``path`` itself where it is a clip, else its subfolders that are.

    Raises ``PisaError`` where there are none.
    """
    if (path / "clip_info.json").is_file():
        return [path]
    clips = sorted(info.parent for info in path.glob("[!.]*/clip_info.json"))
    if not clips:
        raise PisaError(f"{path}: holds no clip (a folder of frames with clip_info.json)")
    return clips


def has_masks(clip: Path) -> bool:
    return (clip / "mask.npz").is_file() or (clip / "mask.npy").is_file()


def annotate_clip(
    clip: Path,
    tracker: WindowTracker,
    size: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    masks: str | None = None,
) -> None:
    """Track the objects of ``points`` in ``clip_info.json`` and write ``mask.npz`` in one step.

    ``masks`` is the name of a file in the clip's folder, in any format of ``pisa masks``, whose
    first mask of each object is the prompt instead. The tracker sees frames at ``size`` (height,
    width; None: as they are); masks are written at the frames' own size, so that the release's
    readers take them.

    Raises ``PisaError`` where the tracker finds nothing at an object's prompt.
    """
    paths = frame_paths(clip)
    with Image.open(paths[0]) as first:
        native = (first.height, first.width)
    seen = native if size is None else (size[0], size[1])
    prompts: Prompts
    if masks is None:
        points = scale_points(parse_points(read_info(clip), clip), native, seen)
        prompts, num_objects = {0: dict(enumerate(points))}, len(points)
    else:
        video = read_mask_video(clip / masks)
        prompts, num_objects = mask_prompts(video, len(paths), native), len(video.objects)
    windows = frame_windows(paths, seen)
    found = track_windows(tracker, windows, prompts, num_objects, len(paths), device=device)
    frames = (frame for window in found for frame in window)
    write_mask_file(clip / "mask.npz", frames, (len(paths), num_objects, *native))
