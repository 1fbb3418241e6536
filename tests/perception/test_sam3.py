"""SAM 3: the real class of transformers with a tiny random configuration, offline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoInferenceSession,
    Sam3TrackerVideoModel,
)

from pisa.errors import PisaError
from pisa.perception.base import PointTracker, Tracker, WindowTracker
from pisa.perception.sam3 import ABSENT_LOGIT, SAM3Tracker
from pisa.types import ObjectPoints

SIDE, LONG = 56, 20  # more frames than the memory of 16
MASKS = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
MASKS[0, 10:30, 10:30] = MASKS[1, 34:52, 26:44] = True
OBJECTS = [ObjectPoints(((20.0, 15.0),)), ObjectPoints(((40.0, 50.0), (36.0, 48.0)), ((5.0, 5.0),))]


@pytest.fixture(scope="module")
def network() -> Sam3TrackerVideoModel:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": SIDE,
        "image_size": SIDE,
    }
    config = Sam3TrackerVideoConfig(
        vision_config={"model_type": "sam3_vision_model", "backbone_config": backbone},
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_fuser_num_layers=1,
        memory_fuser_intermediate_dim=64,
        mask_decoder_config={"mlp_dim": 64},
        image_size=SIDE,
    )
    model = Sam3TrackerVideoModel(config).eval()
    for parameter in model.parameters():  # some begin as zero, which would hide their part
        torch.nn.init.normal_(parameter, std=0.05) if not parameter.any() else None
    return model


@pytest.fixture
def video() -> Tensor:
    return torch.rand(3, LONG, SIDE, SIDE) * 2 - 1


def library_logits(network: Sam3TrackerVideoModel, video: Tensor, prompt: str) -> Tensor:
    """The library's own loop over a whole clip, one object after the other."""
    session = Sam3TrackerVideoInferenceSession(video=video.transpose(0, 1), dtype=torch.float32)
    for index in range(2):
        session.obj_id_to_idx(index)
        if prompt == "masks":
            session.add_mask_inputs(index, 0, MASKS[index][None, None].float())
        else:
            entry = OBJECTS[index]
            points = torch.tensor([*entry.positive, *entry.negative])
            labels = [1] * len(entry.positive) + [0] * len(entry.negative)
            inputs = {"point_coords": points[None, None]}
            inputs["point_labels"] = torch.tensor(labels)[None, None]
            session.add_point_inputs(index, 0, inputs)
    session.obj_with_new_inputs = [0, 1]
    network(session, frame_idx=0)
    found = [output.pred_masks[:, 0] for output in network.propagate_in_video_iterator(session)]
    low = torch.stack(found, dim=1)
    return torch.nn.functional.interpolate(low, (SIDE, SIDE), mode="bilinear")


@pytest.mark.parametrize("prompt", ["masks", "points"])
@pytest.mark.parametrize("length", [3, LONG])
def test_equals_the_librarys_own_loop(network, video: Tensor, prompt: str, length: int) -> None:
    """Also for a clip shorter than the memory, which the library treats in its own way."""
    tracker, video = SAM3Tracker(network), video[:, :length]
    assert isinstance(tracker, Tracker) and isinstance(tracker, PointTracker)
    if prompt == "masks":
        ours = tracker.segment(video[None], MASKS[None])[0]
    else:
        ours = tracker.segment_points(video, OBJECTS)
    theirs = library_logits(network, video, prompt)
    assert ours.shape == (2, length, SIDE, SIDE)
    assert theirs[:, 1:].std() > 1e-3 and not torch.allclose(theirs[0, 1:], theirs[1, 1:])
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("prompt", [MASKS, OBJECTS])
def test_windows_change_nothing_and_keep_few_frames(network, video: Tensor, prompt) -> None:
    tracker = SAM3Tracker(network)
    assert isinstance(tracker, WindowTracker)
    whole = tracker.session(prompt, LONG).segment(video)
    session = tracker.session(prompt, LONG)
    windowed = torch.cat([session.segment(window) for window in video.split(3, dim=1)], dim=1)
    assert torch.equal(windowed, whole)
    assert list(session.record.processed_frames) == [LONG - 1]
    for memory in session.record.output_dict_per_obj.values():
        assert sorted(memory["non_cond_frame_outputs"]) == list(range(LONG - 16, LONG))


def test_empty_objects_are_absent_and_frames_may_have_any_size(network) -> None:
    masks = torch.stack([torch.zeros(30, 40, dtype=torch.bool), torch.ones(30, 40).bool()])
    video = torch.rand(1, 3, 2, 30, 40) * 2 - 1
    found = SAM3Tracker(network).segment(video, masks[None])
    assert found.shape == (1, 2, 2, 30, 40)
    assert (found[0, 0] == ABSENT_LOGIT).all() and (found[0, 1, 0] > 0).all()
    (last,) = SAM3Tracker(network).segment(video, masks[None], slice(-1, None))
    assert torch.equal(last[0], found[0, 1]) and not last.is_inference()
    with pytest.raises(ValueError, match="positive point"):
        SAM3Tracker(network).segment_points(video[0], [ObjectPoints(())])


def test_weights_are_saved_and_loaded(network, video: Tensor, tmp_path) -> None:
    network.save_pretrained(tmp_path)
    loaded = SAM3Tracker.from_pretrained(tmp_path).train()
    assert not any(module.training for module in loaded.modules())
    assert all(map(torch.equal, loaded.parameters(), network.parameters()))
    ours = loaded.segment(video[None, :, :3], MASKS[None])
    theirs = SAM3Tracker(network).segment(video[None, :, :3], MASKS[None])
    assert torch.allclose(ours, theirs, atol=1e-5)  # where weights lie in memory may round


def test_missing_weights_name_the_repository_and_the_place(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PisaError, match=r"SAM 3 weights.*facebook/sam3.*licence.*`path`"):
        SAM3Tracker.from_pretrained(tmp_path / "absent")


@pytest.mark.weights
def test_released_weights_follow_a_square() -> None:
    """A bright square that moves 6 px a frame is tracked with IoU > 0.9."""
    masks = torch.zeros(1, 1, 4, 256, 256, dtype=torch.bool)
    for t in range(4):
        masks[:, :, t, 80 + 6 * t : 130 + 6 * t, 100:150] = True
    video = torch.where(masks, 0.8, torch.tensor(-0.5)).expand(-1, 3, -1, -1, -1)
    found = SAM3Tracker.from_pretrained().segment(video, masks[:, :, 0]) > 0
    assert (found & masks).sum() / (found | masks).sum() > 0.9
