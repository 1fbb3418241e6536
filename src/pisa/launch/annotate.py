"""``annotate.py``: masks of one's own clips from points, through the configured tracker."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from omegaconf import DictConfig
from rich.progress import track
from torch import nn

from pisa.data.clip_files import frame_paths, read_frames, resize_masks
from pisa.data.clip_info import read_info
from pisa.data.points import parse_points, scale_points
from pisa.launch.devices import pick_device
from pisa.launch.outcome import IncompleteError
from pisa.launch.targets import instantiate
from pisa.ops.video import from_frames
from pisa.perception.base import PointTracker
from pisa.types import PisaError


def annotate_main(cfg: DictConfig) -> None:
    """Write ``mask.npz`` beside the frames of every clip of ``cfg.path`` that has none.

    A clip that fails is named and the others go on; the exit code is then 3.
    """
    if cfg.path is None:
        raise PisaError("path=DIR is needed: a clip folder, or a folder of clip folders")
    clips = clip_folders(Path(cfg.path))
    tracker = instantiate(cfg.perception.tracker)
    if not isinstance(tracker, PointTracker):
        name = type(tracker).__name__
        raise PisaError(f"{name} takes no points; use perception=pretrained (SAM 2)")
    device = pick_device(cfg.device)
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    todo = [clip for clip in clips if cfg.overwrite or not has_masks(clip)]
    failed = []
    for clip in track(todo, "annotating clips", transient=True):
        try:
            annotate_clip(clip, tracker, None if cfg.size is None else list(cfg.size), device)
        except PisaError as error:
            failed.append(clip.name)
            print(f"failed: {clip.name}: {' '.join(str(error).split())}", file=sys.stderr)
    print(f"annotated {len(todo) - len(failed)} clips; {len(clips) - len(todo)} had masks already")
    if failed:
        raise IncompleteError(f"{len(failed)} of {len(todo)} clips have no masks: {failed[0]} ...")


def clip_folders(path: Path) -> list[Path]:
    """``path`` itself where it is a clip, else its subfolders that are."""
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
    write_mask_file(clip / "mask.npz", masks.swapaxes(0, 1), native)


def write_mask_file(path: Path, masks: Bool[np.ndarray, "t n h w"], size: tuple[int, int]) -> None:
    """``mask.npz`` with array ``mask`` at ``size``, enlarged frame by frame to spare memory."""
    shape = (*masks.shape[:2], *size)
    header = {"descr": "|b1", "fortran_order": False, "shape": shape}
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=".mask.", suffix=".part")
        try:
            with (
                os.fdopen(handle, "wb") as stream,
                zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                archive.open("mask.npy", "w", force_zip64=True) as member,
            ):
                np.lib.format.write_array_header_1_0(member, header)
                for frame in masks:
                    member.write(resize_masks(frame[None], *size).tobytes())
            os.chmod(part, 0o644)
            os.replace(part, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        raise PisaError(f"cannot write {path}: {error.strerror}") from error
