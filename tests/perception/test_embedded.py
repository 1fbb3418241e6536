"""Contracts of the small teachers: shapes, gradients, batches, weights, invariants of matching."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pisa.errors import PisaError
from pisa.perception.embedded_depth import EmbeddedDepth
from pisa.perception.embedded_flow import EmbeddedFlow, local_correlation, warp
from pisa.perception.embedded_segmentation import (
    GIVEN_LOGIT,
    NUM_COLOURS,
    EmbeddedTracker,
    colour_distance,
    object_colours,
)

TEACHERS = [EmbeddedTracker, EmbeddedFlow, EmbeddedDepth]
Clips = tuple[Tensor, Tensor]


def run(teacher: torch.nn.Module, video: Tensor, masks: Tensor) -> Tensor:
    if isinstance(teacher, EmbeddedTracker):
        return teacher.segment(video, masks[:, :, 0])
    return teacher.flow(video) if isinstance(teacher, EmbeddedFlow) else teacher.depth(video)


SHAPES = [(EmbeddedTracker, (2, 2, 4)), (EmbeddedFlow, (2, 2, 3)), (EmbeddedDepth, (2, 4))]


@pytest.mark.parametrize(("cls", "shape"), SHAPES)
def test_shape_and_gradient(cls: type, shape: tuple[int, ...], falling_square: Clips) -> None:
    video, masks = falling_square
    video.requires_grad_()
    out = run(cls(), video, masks)
    assert out.shape == (*shape, 32, 32)
    (gradient,) = torch.autograd.grad(out.square().mean(), video)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(3).abs().amax(dim=(1, 3)) > 0).all()  # every frame of every clip


@pytest.mark.parametrize("cls", TEACHERS)
def test_batch_equals_loop(cls: type, falling_square: Clips) -> None:
    video, masks = falling_square
    teacher = cls()
    both = run(teacher, video, masks)
    for i in range(2):
        alone = run(teacher, video[i : i + 1], masks[i : i + 1])
        assert torch.allclose(alone[0], both[i], atol=1e-4)


@pytest.mark.parametrize("cls", TEACHERS)
def test_gradient_matches_finite_differences(cls: type, falling_square: Clips) -> None:
    video, masks = (x[:1, :, :3] for x in falling_square)
    video = video.double()
    teacher = cls().double()
    video.requires_grad_()
    (gradient,) = torch.autograd.grad(run(teacher, video, masks).square().mean(), video)
    direction = torch.randn_like(video)
    with torch.no_grad():
        up, down = (run(teacher, video + s * 1e-6 * direction, masks) for s in (1, -1))
    slope = (up.square().mean() - down.square().mean()) / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-3)


@pytest.mark.parametrize("cls", TEACHERS)
def test_weights_round_trip_frozen(cls: type, falling_square: Clips, tmp_path) -> None:
    trained = cls()
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    loaded = cls.from_pretrained(path)
    assert torch.equal(run(loaded, *falling_square), run(trained.eval(), *falling_square))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training


@pytest.mark.parametrize("cls", TEACHERS)
def test_missing_and_wrong_weights_are_named(cls: type, tmp_path) -> None:
    with pytest.raises(PisaError, match=r"nothing\.safetensors"):
        cls.from_pretrained(tmp_path / "nothing.safetensors")
    wrong = tmp_path / "wrong.safetensors"
    save_file({"x": torch.zeros(1)}, wrong)
    with pytest.raises(PisaError, match=cls.__name__):
        cls.from_pretrained(wrong)


@pytest.mark.parametrize("cls", TEACHERS)
def test_small_enough_for_the_package(cls: type) -> None:
    assert sum(p.numel() for p in cls().parameters()) <= 800_000


def test_tracker_keeps_the_given_frame_and_empty_objects(falling_square: Clips) -> None:
    video, masks = falling_square
    logits = EmbeddedTracker().segment(video, masks[:, :, 0])
    assert torch.equal(logits[:, :, 0] > 0, masks[:, :, 0])
    assert (logits[0, 0] == -GIVEN_LOGIT).all()
    assert (logits[0, 1, 1:] != -GIVEN_LOGIT).all()


@pytest.mark.parametrize("cls", TEACHERS)
def test_under_autocast(cls: type, falling_square: Clips) -> None:
    """Their own validation runs so where bfloat16 is fast."""
    teacher = cls()
    plain = run(teacher, *falling_square)
    with torch.autocast("cpu", torch.bfloat16):
        fast = run(teacher, *falling_square)
    assert fast.shape == plain.shape and fast.isfinite().all()


def test_tracker_with_no_object_at_all(falling_square: Clips) -> None:
    video, masks = falling_square
    logits = EmbeddedTracker().segment(video, torch.zeros_like(masks[:, :, 0]))
    assert (logits == -GIVEN_LOGIT).all()


def test_tracked_selects_objects_that_still_see_the_others(falling_square: Clips) -> None:
    video, masks = falling_square
    tracker = EmbeddedTracker()
    both = tracker.segment(video, masks[:, :, 0])
    last = tracker.segment(video, masks[:, :, 0], slice(-1, None))
    unaware = tracker.segment(video, masks[:, 1:, 0])
    assert torch.allclose(last[:, 0], both[:, 1], atol=1e-4)
    assert torch.allclose(unaware[0, 0], both[0, 1], atol=1e-4)  # clip 0 has one object
    assert not torch.allclose(unaware[1, 0], both[1, 1], atol=1e-3)


def test_object_colours_are_those_under_the_mask(falling_square: Clips) -> None:
    video, masks = falling_square
    colours = object_colours(video[:, :, 0], masks[:, 1, 0])
    assert torch.equal(colours, torch.tensor([0.8, -0.4, 0.2]).expand(2, NUM_COLOURS, 3))
    distance = colour_distance(video[:, :, 1].unsqueeze(1), colours)[:, 0, 0]
    inside = masks[:, :, 1].any(dim=1)
    assert distance[inside].max() < distance[~inside].min()


def test_warp_by_a_whole_pixel_shifts() -> None:
    image = torch.rand(1, 2, 6, 7)
    flow = torch.zeros(1, 2, 6, 7)
    flow[:, 0] = 1.0
    assert torch.allclose(warp(image, flow)[..., :-1], image[..., 1:], atol=1e-5)
    assert torch.allclose(warp(image, torch.zeros_like(flow)), image, atol=1e-5)


def test_local_correlation_finds_the_shift() -> None:
    first = torch.nn.functional.normalize(torch.randn(1, 16, 8, 8), dim=1)
    second = torch.roll(first, shifts=(1, -1), dims=(2, 3))  # content moves down 1, left 1
    best = local_correlation(first, second, 1)[0, :, 2:6, 2:6].argmax(dim=0)
    assert (best == 2 * 3 + 0).all()  # row dy = +1, column dx = -1 of the 3 x 3 window
