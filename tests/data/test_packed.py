"""The packed form returns what the clip folders hold."""

import shutil
from dataclasses import replace

import pytest
import torch

from pisa.data.clip_io import read_clip, write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.data.packed import PackedClips, pack
from pisa.ops.video import to_frames
from pisa.types import Clip, PisaError


def make(root, *, overlap=False):
    generator = torch.Generator().manual_seed(0)
    for i in range(2):
        masks = torch.zeros(2 + i, 3, 8, 8, dtype=torch.bool)
        masks[0, :, :4], masks[-1, :, 4 - overlap :] = True, True
        clip = Clip(f"{i}", torch.rand(3, 3, 8, 8, generator=generator) * 2 - 1, masks, 16.0)
        write_clip(root / "clips" / f"{i}", clip)
    write_manifest(root, Manifest(("0", "1")))


def test_packed_clips_are_the_clips(tmp_path):
    make(tmp_path)
    packed = PackedClips(pack(tmp_path))
    assert packed.names == ("0", "1")
    for i in range(len(packed)):
        clip = read_clip(tmp_path / "clips" / f"{i}")
        assert torch.equal(packed.video(i), torch.from_numpy(to_frames(clip.video)))
        assert torch.equal(packed.masks(i), clip.masks)


def test_what_cannot_be_packed_is_one_sentence(tmp_path):
    make(tmp_path / "a", overlap=True)
    with pytest.raises(PisaError, match="overlap"):
        pack(tmp_path / "a")
    make(tmp_path / "b")
    clip = read_clip(tmp_path / "b/clips/1")
    shutil.rmtree(tmp_path / "b/clips/1")
    write_clip(
        tmp_path / "b/clips/1", replace(clip, video=clip.video[:, :2], masks=clip.masks[:, :2])
    )
    with pytest.raises(PisaError, match="one length and size"):
        pack(tmp_path / "b")
    with pytest.raises(PisaError, match="no packed data set"):
        PackedClips(tmp_path / "b")
