from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pisa.data.loaders import ClipDataset, flip_horizontally
from pisa.errors import PisaError
from pisa.types import Clip, collate


def tensors(clip: Clip) -> list[torch.Tensor]:
    assert clip.depth_m is not None and clip.flow_px is not None
    return [clip.video, clip.masks, clip.depth_m, clip.flow_px]


def same(a: Clip, b: Clip) -> bool:
    pairs = zip(tensors(a), tensors(b), strict=True)
    return a.name == b.name and all(torch.equal(x, y) for x, y in pairs)


def test_cache_changes_nothing(data_root: Path) -> None:
    cached = ClipDataset(data_root / "train", 4, depth=True, flow=True, cache=True)
    plain = ClipDataset(data_root / "train", 4, depth=True, flow=True, cache=False)
    assert len(cached) == 7
    for i in (0, 3, 0):
        assert same(cached[i], plain[i])


def test_cached_clips_cannot_be_spoilt(data_root: Path) -> None:
    data_set = ClipDataset(data_root / "train", depth=True, flow=True)
    for tensor in tensors(data_set[0]):
        tensor.zero_()
    assert all(tensor.any() for tensor in tensors(data_set[0]))


def test_cache_spares_the_disk(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set = ClipDataset(data_root / "train")
    first = data_set[2].video
    monkeypatch.setattr("pisa.data.loaders.read_clip", None)
    assert torch.equal(data_set[2].video, first)


def test_mirrored_items_follow_the_plain_ones(data_root: Path) -> None:
    data_set = ClipDataset(data_root / "train", depth=True, flow=True, horizontal_flip=True)
    assert len(data_set) == 14
    plain, mirrored = data_set[2], data_set[9]
    assert mirrored.flow_px is not None and plain.flow_px is not None
    assert torch.equal(mirrored.video, plain.video.flip(-1))
    assert torch.equal(mirrored.masks, plain.masks.flip(-1))
    assert torch.equal(mirrored.flow_px[1], plain.flow_px[1].flip(-1))
    assert torch.equal(mirrored.flow_px[0], -plain.flow_px[0].flip(-1))
    assert mirrored.camera is None and mirrored.poses is None
    assert same(flip_horizontally(mirrored), plain)
    with pytest.raises(IndexError):
        data_set[14]


def test_first_clips_only_and_collation(data_root: Path) -> None:
    data_set = ClipDataset(data_root / "train", num_frames=3, frame_stride=2, num_clips=2)
    batch = collate([data_set[i] for i in range(len(data_set))])
    assert batch.names == ("0000", "0001")
    assert batch.video.shape == (2, 3, 3, 16, 16) and batch.fps_hz == 8.0
    assert batch.drop_height_m.tolist() == pytest.approx([0.75, 0.76])
    assert batch.depth_m is None and batch.flow_px is None


def test_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="no clips"):
        ClipDataset(tmp_path / "nothing")
