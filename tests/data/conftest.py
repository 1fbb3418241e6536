"""Small clips with consistent truth: squares that fall in front of a level camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.types import Camera, Clip, Poses

NUM_FRAMES, NUM_OBJECTS, SIZE = 6, 2, 16


def make_clip(name: str = "0000", seed: int = 0) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, NUM_FRAMES, 4, 4, generator=generator) * 2 - 1
    size = (NUM_FRAMES, SIZE, SIZE)
    video = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")[0]
    masks = torch.zeros(NUM_OBJECTS, *size, dtype=torch.bool)
    for t in range(NUM_FRAMES):
        masks[0, t, 12:16, 1:5] = True
        masks[1, t, 2 + t : 6 + t, 8:12] = True
    position = torch.zeros(NUM_FRAMES, NUM_OBJECTS, 3, dtype=torch.float64)
    position[..., 1] = 2.0
    position[:, 1, 2] = 1.0 - 0.1 * torch.arange(NUM_FRAMES, dtype=torch.float64)
    quaternion = torch.zeros(NUM_FRAMES, NUM_OBJECTS, 4, dtype=torch.float64)
    quaternion[..., 3] = 1.0
    depth = torch.rand(size, generator=generator) * 0.1 + 2.0
    return Clip(
        name=name,
        video=video.clamp(-1, 1),
        masks=masks,
        fps_hz=16.0,
        caption="a cube falls",
        dropping_index=1,
        depth_m=depth.half().float(),
        camera=Camera((0.0, 0.0, 0.5), SIZE, SIZE),
        poses=Poses(position, quaternion),
        drop_height_m=0.75 + 0.01 * seed,
    )


def make_data_set(folder: Path, num_clips: int) -> Path:
    names = tuple(f"{i:04d}" for i in range(num_clips))
    for i, name in enumerate(names):
        write_clip(folder / "clips" / name, make_clip(name, seed=i), extra={"seed": i})
    write_manifest(folder, Manifest(clips=names, config_sha256="0" * 64))
    return folder


@pytest.fixture
def clip() -> Clip:
    return make_clip()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets ``train`` (7 clips), ``sim_seen`` (3) and ``sim_unseen`` (2); do not modify."""
    root = tmp_path_factory.mktemp("data")
    for name, num_clips in (("train", 7), ("sim_seen", 3), ("sim_unseen", 2)):
        make_data_set(root / name, num_clips)
    return root


@pytest.fixture
def data_set_maker() -> Callable[[Path, int], Path]:
    return make_data_set
