"""Batches cut to frames and to clips, with everything that belongs to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pisa.errors import PisaError
from pisa.types import Batch
from tests.tasks.toy import falling_batch


def full_batch() -> Batch:
    """Three clips of six frames with depth and flow that tell the frame."""
    batch = falling_batch(3)
    frame = torch.arange(6.0)[None, :, None, None].expand(3, 6, 16, 16)
    return replace(batch, depth_m=frame.clone(), flow_px=frame[:, None, :5].repeat(1, 2, 1, 1, 1))


@pytest.mark.parametrize(("start", "stop"), [(None, 4), (0, 6), (2, 5), (3, None), (None, None)])
def test_frames_cut_every_field_and_flow_is_one_shorter(start, stop):
    batch = full_batch()
    cut = batch.frames(slice(start, stop))
    wanted = list(range(6))[start:stop]
    assert cut.video.equal(batch.video[:, :, wanted]) and cut.masks.equal(batch.masks[:, :, wanted])
    assert cut.depth_m[0, :, 0, 0].tolist() == wanted
    assert cut.flow_px.shape[1:3] == (2, len(wanted) - 1)
    assert cut.flow_px[0, 0, :, 0, 0].tolist() == wanted[:-1]


def test_chosen_frames_have_no_flow():
    cut = full_batch().frames(torch.tensor([0, 4, 2]))
    assert cut.depth_m[0, :, 0, 0].tolist() == [0, 4, 2]
    assert cut.video.shape[2] == cut.masks.shape[2] == 3 and cut.flow_px is None


def test_frames_behind_the_end_are_refused():
    with pytest.raises(PisaError, match="clips have 6 frames, cannot take 7"):
        full_batch().frames(slice(7))


def test_clips_cut_names_and_tensors():
    batch = full_batch()
    cut = batch.clips(slice(1, 3))
    assert len(cut) == 2 and cut.names == batch.names[1:] and cut.captions == batch.captions[1:]
    assert cut.fps_hz == 16.0 and cut.flow_px.shape[0] == cut.depth_m.shape[0] == 2
    assert cut.drop_height_m.shape == (2,) and cut.video.equal(batch.video[1:])
    assert falling_batch(2).clips(slice(None)).depth_m is None
