"""Masks of Physics-IQ (arXiv:2501.09038) as mask pairs, to be scored like any others.

  pisa physics-iq video-masks/real/30FPS video-masks/generated/MODEL/24FPS out
  python eval.py source=mask_pairs source.manifest=out/pairs.jsonl output_dir=out/scores

Both folders are the benchmark's own: masks are videos in which white is what moves, published for
the real videos, and written by its scripts for generated ones. They show motion, not an object, and
frame 0 is always black. ``pairs.jsonl`` pairs generated videos with the first real take,
``takes.jsonl`` the second take with the first: the difference that chance alone makes. The IoU of
protocol ``official`` is the benchmark's spatiotemporal IoU, before it is divided by that of the
takes. The benchmark's other terms and its total score are not computed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from rich.progress import track

from pisa.data.mask_files import resize_masks, write_mask_file
from pisa.data.video_decoder import Decoder
from pisa.data.video_files import Limits
from pisa.errors import PisaError
from pisa.io.files import write_atomic

SECONDS = 5  # of a video, that the benchmark compares
REDUCTION = 4  # it compares at a quarter of the real video's size
_NAME = re.compile(r"(\d+)_video-masks_(\d+)FPS_(perspective-[a-z]+)_(take-[12])_(.+)\.mp4")
_LIMITS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("real", type=Path, help="masks of the real videos")
    parser.add_argument("generated", type=Path, help="masks of a model's videos")
    parser.add_argument("out", type=Path, help="gets pairs.jsonl, takes.jsonl and the masks")


def main(given: argparse.Namespace) -> None:
    """Write both manifests; a video that is missing becomes a pair that fails when it is scored."""
    real, generated = find_masks(given.real), find_masks(given.generated)
    unknown = sorted(name for name in generated if name not in real)
    if unknown:
        raise PisaError(f"{given.real}: has no masks of {unknown[0]} ({len(unknown)} are missing)")
    firsts = {name: path for name, path in real.items() if "_take-1_" in name}
    pairs: list[dict[str, Any]] = []
    takes: list[dict[str, Any]] = []
    for name, path in track(firsts.items(), "masks", transient=True):
        second = name.replace("_take-1_", "_take-2_")
        size = _write(path, given.out / "real" / f"{name}.npz")
        truth: dict[str, Any] = {"gt_mask": f"real/{name}.npz", "gt_fps": _fps(path)}
        for folder, other, found, lines in (
            ("generated", name, generated.get(name), pairs),
            ("real", second, real.get(second), takes),
        ):
            if found is not None:
                _write(found, given.out / folder / f"{other}.npz", size)
            fps = truth["gt_fps"] if found is None else _fps(found)
            lines.append(truth | {"pd_mask": f"{folder}/{other}.npz", "pd_fps": fps})
    for file, lines in (("pairs.jsonl", pairs), ("takes.jsonl", takes)):
        write_atomic(given.out / file, "".join(f"{json.dumps(x)}\n" for x in lines).encode())
        print(f"{given.out / file}: {len(lines)} pairs")


def find_masks(folder: Path) -> dict[str, Path]:
    """The mask videos in a folder by view, take and scene. Raises ``PisaError`` without any."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    names = {path: _NAME.fullmatch(path.name) for path in paths}
    found = {"_".join(m.groups()[2:]): path for path, m in names.items() if m}
    if not found:
        raise PisaError(f"{folder}: holds no ID_video-masks_30FPS_VIEW_take-1_SCENE.mp4")
    return found


def _fps(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, "find_masks has matched it"
    return int(match[2])


def _write(video: Path, out: Path, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Write a video's first masks as .npz, at ``size`` or reduced; returns the size (H, W)."""
    with Decoder(video, _LIMITS.pixels_per_frame, _LIMITS.frames) as frames:
        masks = list(islice(_smaller((f for _, f in frames), size), SECONDS * _fps(video)))
    found = np.stack(masks)[:, None]
    write_mask_file(out, found, found.shape)
    return found.shape[2], found.shape[3]


def _smaller(
    frames: Iterator[np.ndarray], size: tuple[int, int] | None
) -> Iterator[Bool[np.ndarray, "h w"]]:
    """White pixels, every fourth or to ``size``, by the nearest pixel."""
    for frame in frames:
        height, width = size or (frame.shape[0] // REDUCTION, frame.shape[1] // REDUCTION)
        yield resize_masks((frame[..., 0] > 127)[None, None], height, width)[0, 0]
