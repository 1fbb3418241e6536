"""``annotate.py``: the page for one's own recordings, or masks of clips from their points."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from pisa.annotate.tracking import ClipTracker, seen_size
from pisa.annotate.workspace import Workspace
from pisa.data.clip_info import parse_points, read_info, scale_points
from pisa.data.image_files import frame_paths, read_frames
from pisa.data.mask_files import write_mask_file
from pisa.data.video_files import VIDEO_SUFFIXES
from pisa.errors import IncompleteError, PisaError
from pisa.launch.runs import AnnotateRun, build_tracker
from pisa.ops.devices import pick_device
from pisa.ops.video import from_frames
from pisa.perception.base import PointTracker

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
        tracker = build_tracker(run.tracker, device)
        return ClipTracker(tracker, seen_size(tracker, settings.size), device)

    workspace = Workspace(run.path, make_tracker, settings.clip_size)
    serve(workspace, settings.port, settings.show, "" if takes_points else WITHOUT_POINTS)


def make_masks(run: AnnotateRun) -> None:
    """Write ``mask.npz`` beside the frames of every clip of ``run.path`` that has none.

    Raises ``PisaError`` for a tracker that takes no points, ``IncompleteError`` where clips failed:
    each is named, after the others are done.
    """
    clips, device = clip_folders(run.path), pick_device(run.settings.device)
    tracker = build_tracker(run.tracker, device)
    if not isinstance(tracker, PointTracker):
        name = type(tracker).__name__
        raise PisaError(f"{name} takes no points; use perception=pretrained (SAM 2)")
    todo = [clip for clip in clips if run.settings.overwrite or not has_masks(clip)]
    failed = []
    for clip in track(todo, "annotating clips", transient=True):
        try:
            annotate_clip(clip, tracker, run.settings.size, device)
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
    tracker: PointTracker,
    size: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Track the objects of ``points`` in ``clip_info.json`` and write ``mask.npz`` in one step.

    The tracker sees frames at ``size`` (height, width; None: as they are); masks are written at
    the frames' own size, so that the release's readers take them.

    Raises ``PisaError`` where the tracker finds nothing at an object's points.
    """
    points = parse_points(read_info(clip), clip)
    paths = frame_paths(clip)
    frames, native = read_frames(paths, None if size is None else (size[0], size[1]))
    shape = (frames.shape[1], frames.shape[2])
    with torch.no_grad():
        logits = tracker.segment_points(
            from_frames(frames).to(device), scale_points(points, native, shape)
        )
    masks = (logits > 0).cpu().numpy()  # [n, t, h, w]
    empty = [i for i, mask in enumerate(masks) if not mask[0].any()]
    if empty:
        raise PisaError(f"{clip}: the tracker finds nothing at the points of object {empty[0]}")
    write_mask_file(clip / "mask.npz", masks.swapaxes(0, 1), (len(frames), len(masks), *native))
