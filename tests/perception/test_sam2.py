"""SAM 2: the package's real classes, a small random encoder, offline."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pisa.annotate.tracking import track_windows
from pisa.errors import PisaError
from pisa.ops.video import from_frames
from pisa.perception.base import PointTracker, WindowTracker
from pisa.perception.sam2 import ABSENT_LOGIT, SAM2Tracker
from pisa.perception.sam2_network import HIERA_LARGE, HIERA_TINY, HieraSize, build_sam2
from pisa.types import ObjectPoints

SMALL = HieraSize(16, 1, (1, 1, 2, 1), (3,), (4, 4, 4, 2), (4, 4))
SIDE = 64


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return SAM2Tracker.random(SMALL, image_size=SIDE).network


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    video = torch.rand(2, 3, 3, SIDE, SIDE) * 2 - 1
    masks = torch.zeros(2, 2, SIDE, SIDE, dtype=torch.bool)
    masks[:, 1, 10:30, 10:30] = True
    masks[1, 0, 40:60, 30:50] = True
    return video, masks


def predictor_logits(network: nn.Module, clip: Tensor, masks: Tensor) -> Tensor:
    """The package's own predictor on frames in memory: ``init_state`` without its file reading."""
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    predictor = network
    original = type(network)
    predictor.__class__ = SAM2VideoPredictor  # same parameters, the predictor's methods
    vars(predictor).update(
        fill_hole_area=0,
        non_overlap_masks=False,
        clear_non_cond_mem_around_input=False,
        add_all_frames_to_correct_as_cond=False,
    )
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    images = ((clip.transpose(0, 1) + 1) / 2 - mean) / std
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sam2.sam2_video_predictor.load_video_frames", lambda **_: (images, SIDE, SIDE)
        )
        state = predictor.init_state(video_path="memory")
    for index, mask in enumerate(masks):
        predictor.add_new_mask(state, frame_idx=0, obj_id=index, mask=mask)
    frames = [logits[:, 0] for _, _, logits in predictor.propagate_in_video(state)]
    predictor.__class__ = original
    return torch.stack(frames, dim=1).clone()


def test_equals_the_packages_own_predictor(
    network: nn.Module, clips: tuple[Tensor, Tensor]
) -> None:
    video, masks = clips
    tracker = SAM2Tracker(network, memory_dtype=torch.bfloat16)
    with torch.no_grad():
        ours = tracker.segment(video[1:], masks[1:])[0]
    theirs = predictor_logits(network, video[1], masks[1])
    assert theirs[:, 1:].std() > 1e-3
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_batch_equals_loop_and_empty_objects_are_absent(
    network: nn.Module, clips: tuple[Tensor, Tensor]
) -> None:
    video, masks = clips
    tracker = SAM2Tracker(network)
    with torch.no_grad():
        both = tracker.segment(video, masks)
        alone = tracker.segment(video[:1], masks[:1, 1:])
    assert both.shape == (2, 2, 3, SIDE, SIDE)
    assert torch.allclose(both[0, 1], alone[0, 0], atol=1e-4)
    assert (both[0, 0] == ABSENT_LOGIT).all()
    found = both[1, :, 0] > 0
    assert (found & masks[1]).sum() / (found | masks[1]).sum() > 0.85  # at a quarter of the size


def test_gradient_reaches_every_frame(network: nn.Module, clips: tuple[Tensor, Tensor]) -> None:
    video, masks = clips[0][:1].requires_grad_(), clips[1][:1]
    logits = SAM2Tracker(network).segment(video, masks)
    (gradient,) = torch.autograd.grad(logits[:, :, -1].sigmoid().mean(), video)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax(dim=(0, 1, 3, 4)) > 0).all()  # through memory too
    again = SAM2Tracker(network, recompute_frames=True).segment(video, masks)
    (recomputed,) = torch.autograd.grad(again[:, :, -1].sigmoid().mean(), video)
    torch.testing.assert_close(recomputed, gradient)


def test_random_weights_give_the_segmentation_reward_a_gradient(clips) -> None:
    """Were an object judged absent, its mask would be constant, as in a measured step once."""
    video, masks = clips
    for seed in range(5):
        torch.manual_seed(seed)
        tracker = SAM2Tracker.random(SMALL, SIDE, recompute_frames=True)
        generated = video[:1].clone().requires_grad_()
        (tracker.segment(generated, masks[:1]).sigmoid()[:, 1].sum()).backward()
        assert generated.grad.abs().max() > 0, seed


def test_frozen_and_stays_in_eval_mode(network: nn.Module) -> None:
    tracker = SAM2Tracker(network).train()
    assert not any(module.training for module in tracker.modules())
    assert not any(p.requires_grad for p in tracker.parameters())


@pytest.mark.parametrize(("name", "size"), [("t", HIERA_TINY), ("l", HIERA_LARGE)])
def test_same_network_as_the_packages_configuration(
    name: str, size: HieraSize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and shapes of all tensors, without allocating them."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.utils import instantiate

    GlobalHydra.instance().clear()
    with initialize_config_module("sam2", version_base="1.2"):
        config = compose(f"configs/sam2.1/sam2.1_hiera_{name}.yaml")
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # drop rates
    with torch.device("meta"):
        theirs = instantiate(config.model, _recursive_=True).state_dict()
        ours = build_sam2(size).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_importing_leaves_no_global_hydra(network: nn.Module) -> None:
    from hydra.core.global_hydra import GlobalHydra

    assert not GlobalHydra.instance().is_initialized()


def test_missing_weights_name_file_source_and_place(tmp_path, monkeypatch) -> None:
    def no_network(*args, **kwargs):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    with pytest.raises(PisaError, match=r"sam2\.1_hiera_large\.pt.*facebook/sam2\.1.*path"):
        SAM2Tracker.from_pretrained(size=SMALL, image_size=SIDE)
    with pytest.raises(PisaError, match="no weights at"):
        SAM2Tracker.from_pretrained(tmp_path / "nothing.pt", SMALL, SIDE)


def test_loads_a_checkpoint_file(network: nn.Module, clips, tmp_path) -> None:
    path = tmp_path / "sam2.pt"
    torch.save({"model": network.state_dict()}, path)
    loaded = SAM2Tracker.from_pretrained(path, SMALL, SIDE)
    with torch.no_grad():
        assert torch.equal(loaded.segment(*clips), SAM2Tracker(network).segment(*clips))


@pytest.mark.weights
def test_released_weights_follow_a_square() -> None:
    """With Hiera-L at 256, a bright square that moves 6 px a frame is tracked with IoU > 0.9."""
    video = torch.full((1, 3, 4, 256, 256), -0.5)
    masks = torch.zeros(1, 1, 4, 256, 256, dtype=torch.bool)
    for t in range(4):
        masks[:, :, t, 80 + 6 * t : 130 + 6 * t, 100:150] = True
    video = torch.where(masks, 0.8, video)
    found = SAM2Tracker.from_pretrained(image_size=256).segment(video, masks[:, :, 0]) > 0
    assert (found & masks).sum() / (found | masks).sum() > 0.9


def predictor_point_logits(network: nn.Module, clip: Tensor, objects: list) -> Tensor:
    """The package's own predictor, prompted with clicks; see ``predictor_logits``."""
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    original = type(network)
    network.__class__ = SAM2VideoPredictor
    vars(network).update(
        fill_hole_area=0,
        non_overlap_masks=False,
        clear_non_cond_mem_around_input=False,
        add_all_frames_to_correct_as_cond=False,
    )
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    images = ((clip.transpose(0, 1) + 1) / 2 - mean) / std
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sam2.sam2_video_predictor.load_video_frames", lambda **_: (images, SIDE, SIDE)
        )
        state = network.init_state(video_path="memory")
    for index, entry in enumerate(objects):
        points = [*entry.positive, *entry.negative]
        labels = [1] * len(entry.positive) + [0] * len(entry.negative)
        network.add_new_points_or_box(state, 0, index, points=points, labels=labels)
    frames = [logits[:, 0] for _, _, logits in network.propagate_in_video(state)]
    network.__class__ = original
    return torch.stack(frames, dim=1).clone()


def test_points_equal_the_packages_own_predictor(network: nn.Module, clips) -> None:
    """One click, and three with a negative one: the network takes the two cases differently."""
    objects = [
        ObjectPoints(((20.0, 15.0),)),
        ObjectPoints(((40.0, 50.0), (44.0, 48.0)), ((5.0, 5.0),)),
    ]
    tracker = SAM2Tracker(network, memory_dtype=torch.bfloat16)
    assert isinstance(tracker, PointTracker)
    with torch.no_grad():
        ours = tracker.segment_points(clips[0][1], objects)
    theirs = predictor_point_logits(network, clips[0][1], objects)
    assert theirs.std() > 1e-3 and not torch.allclose(theirs[0], theirs[1], atol=1e-2)
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


LONG = 20  # frames: more than the memory of 16


@pytest.mark.parametrize("prompt", ["masks", "points"])
def test_windows_change_nothing_and_keep_few_frames(network: nn.Module, prompt: str) -> None:
    """Bit for bit the logits of the whole clip, and those of the package's own predictor."""
    video = torch.rand(3, LONG, SIDE, SIDE) * 2 - 1
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 10:30, 10:30] = masks[1, 40:60, 30:50] = True
    objects = [ObjectPoints(((20.0, 15.0),)), ObjectPoints(((40.0, 50.0),), ((5.0, 5.0),))]
    tracker = SAM2Tracker(network, memory_dtype=torch.bfloat16)
    assert isinstance(tracker, WindowTracker)
    session = tracker.session(masks if prompt == "masks" else objects, LONG)
    with torch.no_grad():
        windowed = torch.cat([session.segment(window) for window in video.split(3, dim=1)], dim=1)
        if prompt == "masks":
            whole = tracker.segment(video[None], masks[None])[0]
            theirs = predictor_logits(network, video, masks)
        else:
            whole = tracker.segment_points(video, objects)
            theirs = predictor_point_logits(network, video, objects)
    assert torch.equal(windowed, whole)
    assert torch.allclose(windowed, theirs, atol=1e-4, rtol=1e-4)
    for group in session.groups:
        assert sorted(group.memory["non_cond_frame_outputs"]) == list(range(LONG - 16, LONG))


def test_a_mask_in_a_later_frame_begins_a_track_there(network: nn.Module) -> None:
    """By the masks of ``track_windows``: the same as of the rest of the clip alone."""
    frames = torch.randint(0, 256, (12, SIDE, SIDE, 3), dtype=torch.uint8).numpy()
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[10:30, 10:30] = True
    tracker = SAM2Tracker(network)
    windows = [frames[i : i + 5] for i in range(0, 12, 5)]
    found = np.concatenate(list(track_windows(tracker, windows, {7: {1: mask}}, 2, 12)))
    with torch.no_grad():
        alone = tracker.segment(from_frames(frames[7:])[None], torch.from_numpy(mask)[None, None])
    assert not found[:7].any() and not found[:, 0].any()
    assert np.array_equal(found[7:, 1], (alone[0, 0] > 0).numpy()) and found[7:, 1].any()


def test_points_are_needed(network: nn.Module, clips) -> None:
    with pytest.raises(ValueError, match="positive point"):
        SAM2Tracker(network).segment_points(clips[0][0], [ObjectPoints((), ((1.0, 1.0),))])
