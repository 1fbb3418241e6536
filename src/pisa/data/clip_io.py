"""Reading and writing one clip folder (docs/reference/data_format.md, schema 1).

What is written is a superset of the release's layout; the release's own folders are read as they
are. Only poses, depth and camera are stored; optical flow is derived from them on reading.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pisa.data.clip_info import (
    camera_of,
    caption_of,
    check_name,
    check_num_frames,
    drop_depth_of,
    dropping_index_of,
    fps_of,
    info_of,
    number,
    points_of,
    read_info,
    scale_points,
)
from pisa.data.image_files import frame_paths, read_frames
from pisa.data.mask_files import read_arrays, read_masks, resize_masks
from pisa.errors import PisaError
from pisa.io.files import replace_folder
from pisa.ops.camera import rigid_flow
from pisa.ops.video import from_frames, to_frames
from pisa.types import Camera, Clip, Poses


def write_clip(folder: Path, clip: Clip, *, extra: Mapping[str, object] | None = None) -> None:
    """Write a clip so that ``folder`` appears complete or not at all; an older one is replaced.

    ``extra`` adds keys to ``clip_info.json`` (seed, prior, split, object names ...). Flow goes to
    ``flow.npz`` where the clip has both directions. Raises ``PisaError`` when the disk refuses,
    ``ValueError`` when shapes disagree.
    """
    folder = Path(folder)
    check_name(folder.name)
    _check_shapes(clip)
    info = info_of(clip)
    if clash := info.keys() & (extra or {}).keys():
        raise ValueError(f"extra must not redefine {sorted(clash)}")
    with replace_folder(folder) as part:
        for i, frame in enumerate(to_frames(clip.video)):
            image = Image.fromarray(frame)
            image.save(part / f"rgba_{i:05d}.jpg", quality=95, subsampling=0)
        masks = rearrange(clip.masks, "n t h w -> t n h w").cpu().contiguous().numpy()
        write_npz(part / "mask.npz", {"mask": masks})
        if truth := _truth(clip):
            write_npz(part / "truth.npz", truth)
        if flow := _flow_truth(clip):
            write_npz(part / "flow.npz", flow)
        text = json.dumps({**info, **(extra or {})}, indent=1)
        (part / "clip_info.json").write_text(text, encoding="utf-8")


def read_clip(
    folder: Path,
    *,
    num_frames: int | None = None,
    frame_stride: int = 1,
    fps_hz: float | None = None,
    size: tuple[int, int] | None = None,
    allow_short: bool = False,
    flow: bool = False,
    depth: bool = False,
) -> Clip:
    """Read a clip; ``fps_hz`` of the result is the rate of the frames returned.

    Frames are ``0, stride, 2 stride ...``, or with ``fps_hz`` frame ``floor(i * rate / fps_hz)``
    (the release's alignment, paper Eq. 5). ``num_frames`` None keeps all; a clip with fewer raises
    unless ``allow_short``. ``flow`` is between the frames returned. ``size`` (height, width)
    rescales frames and masks and excludes flow and depth. Raises ``PisaError`` naming the file
    that is missing or broken.
    """
    if size is not None and (flow or depth):
        raise PisaError("a clip cannot be rescaled together with its depth or flow")
    folder = Path(folder)
    info, paths = read_info(folder), frame_paths(folder)
    check_num_frames(info, len(paths), folder)
    rate_hz = fps_of(info, paths[0])
    index = frame_indices(len(paths), rate_hz, num_frames, frame_stride, fps_hz)
    if num_frames is not None and len(index) < num_frames and not allow_short:
        raise PisaError(f"{folder}: has {len(paths)} frames, too few for {num_frames} at this rate")
    frames, native = read_frames([paths[i] for i in index], size)
    masks = _read_masks(folder, index, (len(paths), *native), frames.shape[1:3])
    camera = camera_of(info, frames.shape[1], frames.shape[2], folder)
    dropping = dropping_index_of(info, len(masks), folder)
    points = points_of(info, dropping, folder)
    depth_m, poses = None, None
    if flow or depth:
        depth_m, poses = _read_truth(folder, index, len(paths), masks.shape)
    return Clip(
        name=folder.name,
        video=from_frames(frames),
        masks=masks,
        fps_hz=fps_hz or rate_hz / frame_stride,
        caption=caption_of(info, folder),
        dropping_index=dropping,
        points=None if points is None else scale_points([points], native, frames.shape[1:3])[0],
        depth_m=depth_m if depth else None,
        flow_px=_flow(folder, depth_m, masks, poses, camera) if flow else None,
        camera=camera,
        poses=poses,
        drop_height_m=number(info, "drop_height_m", folder),
        drop_depth_m=drop_depth_of(info, dropping, camera),
    )


def frame_indices(
    available: int,
    rate_hz: float,
    num_frames: int | None = None,
    frame_stride: int = 1,
    fps_hz: float | None = None,
) -> list[int]:
    """Which of ``available`` frames a reader takes; see ``read_clip``.

    Raises ``PisaError`` for a length, stride or rate that cannot be.
    """
    if frame_stride < 1 or (num_frames is not None and num_frames < 1):
        raise PisaError("num_frames and frame_stride must be at least 1")
    if fps_hz is not None and (frame_stride != 1 or not 0 < fps_hz <= rate_hz):
        raise PisaError(f"fps_hz must be in (0, {rate_hz:g}] and excludes a frame_stride")
    step = rate_hz / fps_hz if fps_hz is not None else frame_stride
    index: list[int] = []
    while (i := int(len(index) * step)) < available and len(index) != num_frames:
        index.append(i)
    return index


def write_npz(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """An ``.npz`` at deflate level 1: several times faster than numpy's level 6, about as small."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def discard_parts(clips_folder: Path, names: Collection[str]) -> None:
    """Remove what a killed process left of these clips: hidden, half-written folders."""
    wanted = set(names)
    for path in Path(clips_folder).glob(".*"):
        name, _, rest = path.name[1:].rpartition(".")
        if rest in ("part", "old") and name.rpartition(".")[0] in wanted:
            shutil.rmtree(path, ignore_errors=True)


def _check_shapes(clip: Clip) -> None:
    size = clip.video.shape[1:]
    if clip.masks.shape[1:] != size or clip.masks.shape[0] == 0:
        raise ValueError(f"masks {tuple(clip.masks.shape)} do not fit {tuple(size)} frames")
    if clip.depth_m is not None and clip.depth_m.shape != size:
        raise ValueError(f"depth {tuple(clip.depth_m.shape)} does not fit {tuple(size)} frames")
    if clip.poses is not None and clip.poses.position_m.shape[:2] != (size[0], len(clip.masks)):
        raise ValueError("poses must be [T, N, ...] with the T and N of the masks")
    if clip.camera is not None and (clip.camera.height, clip.camera.width) != tuple(size[1:]):
        raise ValueError("the camera's image size is not that of the video")


def _truth(clip: Clip) -> dict[str, NDArray]:
    truth: dict[str, NDArray] = {}
    if clip.depth_m is not None:
        truth["depth_m"] = clip.depth_m.detach().cpu().to(torch.float16).numpy()
    if clip.poses is not None:
        truth["position_m"] = clip.poses.position_m.detach().cpu().double().numpy()
        truth["quaternion"] = clip.poses.quaternion.detach().cpu().double().numpy()
    return truth


def _flow_truth(clip: Clip) -> dict[str, NDArray]:
    if clip.flow_px is None or clip.backward_flow_px is None:
        return {}
    fields = {"forward_px": clip.flow_px, "backward_px": clip.backward_flow_px}
    return {
        key: rearrange(flow, "c u h w -> u c h w").detach().cpu().to(torch.float16).numpy()
        for key, flow in fields.items()
    }


def _read_masks(
    folder: Path, index: list[int], on_disk: tuple[int, int, int], size: tuple[int, int]
) -> Tensor:
    """Bool masks ``[N, T', H', W']`` of the frames in ``index``, at the size of the frames."""
    masks = read_masks(folder)
    t, _, h, w = masks.shape
    if t != on_disk[0] or (h, w) not in (on_disk[1:], size):
        raise PisaError(
            f"{folder}: mask is {t} frames of {w}x{h} px, "
            f"but there are {on_disk[0]} frames of {on_disk[2]}x{on_disk[1]} px"
        )
    masks = masks[index]
    if (h, w) != size:
        masks = resize_masks(masks, *size)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(masks, 1, 0)))


def _read_truth(
    folder: Path, index: list[int], num_frames: int, mask_shape: torch.Size
) -> tuple[Tensor, Poses | None]:
    """Depth ``[T', H, W]`` and poses of the frames in ``index``."""
    path = folder / "truth.npz"
    if not path.is_file():
        raise PisaError(f"{folder}: truth.npz is missing, so the clip has no depth or flow")
    truth = read_arrays(path)
    n, _, h, w = mask_shape
    shapes = {"depth_m": (h, w), "position_m": (n, 3), "quaternion": (n, 4)}
    for key, shape in shapes.items():
        found = truth.get(key)
        if found is not None and (found.shape != (num_frames, *shape) or found.dtype.kind != "f"):
            expected = f"floating-point {(num_frames, *shape)}"
            raise PisaError(f"{path}: {key} must be {expected}, got {found.dtype} {found.shape}")
    if "depth_m" not in truth or ("position_m" in truth) != ("quaternion" in truth):
        raise PisaError(f"{path}: needs depth_m, and position_m with quaternion or neither")
    depth_m = torch.from_numpy(truth["depth_m"][index]).float()
    if "position_m" not in truth:
        return depth_m, None
    position, quaternion = (torch.from_numpy(truth[k][index]) for k in ("position_m", "quaternion"))
    return depth_m, Poses(position, quaternion)


def _flow(
    folder: Path, depth_m: Tensor | None, masks: Tensor, poses: Poses | None, camera: Camera | None
) -> Tensor:
    if depth_m is None or poses is None or camera is None:
        raise PisaError(f"{folder}: flow needs depth and poses in truth.npz and a camera")
    return rigid_flow(depth_m, masks, poses, camera)
