"""Masks in the formats of other tools, in and out.

  pisa masks convert data/real/0000 0000.json --format coco
  pisa masks convert annotations.xml data/mine/clip --format npz

IN is a clip folder, a mask.npz, a COCO file of videos (.json), an export of CVAT for video (.xml),
a folder of YouTube-VOS (with meta.json) or a folder of palette pictures (DAVIS): its content tells.
OUT is a file or a folder in the format given; with npz it may be a clip folder, whose mask.npz is
written. Frame numbers and times are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pisa.data.image_files import has_info
from pisa.data.mask_coco import read_coco, write_coco
from pisa.data.mask_cvat import read_cvat, write_cvat
from pisa.data.mask_pictures import read_davis, read_youtube_vos, write_davis, write_youtube_vos
from pisa.data.mask_video import MaskVideo, read_npz, write_npz
from pisa.errors import PisaError

# Of each format: its writer, and how the name of its file ends ("" for a folder).
FORMATS: dict[str, tuple[Callable[[MaskVideo, Path], None], str]] = {
    "npz": (write_npz, ".npz"),
    "coco": (write_coco, ".json"),
    "davis": (write_davis, ""),
    "youtube_vos": (write_youtube_vos, ""),
    "cvat": (write_cvat, ".xml"),
}


def read_mask_video(path: Path, name: str | None = None) -> MaskVideo:
    """Masks in any of the formats. ``name`` chooses a video where a file may hold several.

    Raises ``PisaError`` for a path that is none of them, and for what is broken in it.
    """
    if not path.exists():
        raise PisaError(f"{path}: does not exist")
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix == ".json":
        return read_coco(path, name)
    if suffix == ".xml":
        return read_cvat(path)
    if suffix in (".npz", ".npy") or has_info(path):
        return read_npz(path)
    if (path / "meta.json").is_file():
        return read_youtube_vos(path, name)
    if path.is_dir():
        return read_davis(path)
    raise PisaError(f"{path}: masks are .npz, .npy, .json (COCO), .xml (CVAT) or a folder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["convert"])
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT")
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="of OUT")
    parser.add_argument("--video", help="which one, where IN holds several")
    parser.add_argument("--fps", type=float, help="frames per second, instead of the times in IN")


def main(given: argparse.Namespace) -> None:
    """Read, write, and say what was written."""
    write, suffix = FORMATS[given.format]
    _check_target(given.target, given.format, suffix)
    video = read_mask_video(given.source, given.video)
    if given.fps is not None:
        if not given.fps > 0:
            raise PisaError(f"--fps must be a positive number, not {given.fps:g}")
        video = replace(video, times_s=tuple(n / given.fps for n in video.frames))
    write(video, given.target)
    times = "" if video.times_s is not None else "; their times are unknown (--fps)"
    height, width = video.size
    print(
        f"{given.target}: {len(video.objects)} objects in {len(video.frames)} frames of "
        f"{width}x{height} px, numbered {video.frames[0]} to {video.frames[-1]}{times}"
    )


def _check_target(target: Path, name: str, suffix: str) -> None:
    if suffix and not target.is_dir() and target.suffix != suffix:
        raise PisaError(f"{target}: a file of --format {name} must be named *{suffix}")
    if target.is_dir() and name != "npz":  # never delete what may be somebody's data
        raise PisaError(f"{target}: is there already; --format {name} needs a new name")
