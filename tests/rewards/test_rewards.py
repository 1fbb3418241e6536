"""Invariants that every reward must satisfy, on teachers simple enough to check by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pisa.errors import PisaError
from pisa.rewards.depth import DepthReward, normalised_per_frame
from pisa.rewards.flow import FlowReward
from pisa.rewards.mix import WeightedReward
from pisa.rewards.official import OfficialScaling, official_scaling
from pisa.rewards.segmentation import SegmentationReward, soft_iou
from pisa.types import Batch
from tests.rewards.hand_teachers import ColourTracker, DifferenceFlow, GreenDepth

REWARDS = {
    "segmentation": SegmentationReward(ColourTracker()),
    "segmentation_all": SegmentationReward(ColourTracker(), objects="all"),
    "flow": FlowReward(DifferenceFlow()),
    "flow_moving": FlowReward(DifferenceFlow(), region="moving"),
    "flow_objects": FlowReward(DifferenceFlow(), region="objects"),
    "depth": DepthReward(GreenDepth()),
    "depth_changed": DepthReward(GreenDepth(), region="changed"),
    "depth_squared": DepthReward(GreenDepth(), power=2),
    "mix": WeightedReward(
        {"flow": FlowReward(DifferenceFlow()), "depth": DepthReward(GreenDepth())},
        {"flow": 0.5, "depth": 2.0},
    ),
    "official": OfficialScaling(FlowReward(DifferenceFlow())),
}
TRUTH_IS_BEST = sorted(set(REWARDS) - {"official"})


def noisy(batch: Batch, scale: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return batch.video + scale * torch.randn(batch.video.shape, generator=generator)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_finite_one_per_clip_and_differentiable(name: str, batch: Batch) -> None:
    generated = noisy(batch).requires_grad_()
    value = REWARDS[name](generated, batch)
    assert value.shape == (2,)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(generated.grad).all()
    assert (generated.grad.flatten(1).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("name", TRUTH_IS_BEST)
@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0])
def test_highest_at_the_truth(name: str, scale: float, batch: Batch) -> None:
    best = REWARDS[name](batch.video, batch)
    other = REWARDS[name](noisy(batch, scale), batch)
    assert (best >= other - 1e-6).all()
    assert scale < 1 or (best > other).all()  # little noise doesn't move a saturated mask
    assert best == pytest.approx(1.0 if "segmentation" in name else 0.0, abs=1e-5)


SOFT = {
    **REWARDS,
    "segmentation": SegmentationReward(ColourTracker(gain=2)),
    "segmentation_all": SegmentationReward(ColourTracker(gain=2), objects="all"),
}


@pytest.mark.parametrize("name", sorted(SOFT))
def test_gradient_matches_finite_differences(name: str, batch: Batch) -> None:
    batch = replace(batch, video=batch.video.double())
    generated = noisy(batch, 0.1).double().requires_grad_()
    reward = SOFT[name]
    (gradient,) = torch.autograd.grad(reward(generated, batch).sum(), generated)
    direction = torch.randn(generated.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-7 * direction
    with torch.no_grad():
        slope = (reward(generated + step, batch) - reward(generated - step, batch)).sum() / 2e-7
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_batch_equals_loop(name: str, batch: Batch) -> None:
    generated = noisy(batch)
    value = REWARDS[name](generated, batch)
    for i in range(2):
        clip = replace(
            batch,
            names=batch.names[i : i + 1],
            video=batch.video[i : i + 1],
            masks=batch.masks[i : i + 1],
            captions=("",),
            drop_height_m=batch.drop_height_m[i : i + 1],
        )
        assert REWARDS[name](generated[i : i + 1], clip)[0] == pytest.approx(value[i].item(), 1e-5)


def test_soft_iou_of_binary_masks_is_the_iou() -> None:
    a = torch.zeros(1, 1, 1, 4, 4)
    b = torch.zeros(1, 1, 1, 4, 4)
    a[..., :2, :] = 1  # 8 px
    b[..., 1:3, :] = 1  # 8 px, 4 shared
    assert soft_iou(a, b, 1e-6).item() == pytest.approx(4 / 12)
    assert soft_iou(a * 0, b * 0, 1e-6).item() == 1.0


def test_padding_objects_do_not_count(batch: Batch) -> None:
    reward = SegmentationReward(ColourTracker(), objects="all")
    padded = replace(batch, masks=torch.cat([torch.zeros_like(batch.masks), batch.masks], dim=1))
    generated = noisy(batch)
    assert torch.allclose(reward(generated, padded), reward(generated, batch))


def test_dropping_ignores_other_objects(batch: Batch) -> None:
    reward = SegmentationReward(ColourTracker(), objects="dropping")
    other = replace(batch, masks=batch.masks.clone())
    other.masks[1, 0] = False
    assert torch.equal(reward(noisy(batch), other), reward(noisy(batch), batch))


def test_flow_is_the_mean_absolute_difference(batch: Batch) -> None:
    generated = batch.video.clone()
    generated[:, 0, 1:] += 0.5  # the first of two flow steps gains dx = 1 everywhere
    reward = FlowReward(DifferenceFlow())
    assert reward(generated, batch)[0].item() == pytest.approx(-0.25, abs=1e-6)


def test_the_true_flow_is_computed_once_per_clip_and_kept_for_the_last_clips(batch: Batch) -> None:
    class Counting(DifferenceFlow):
        clips = 0

        def flow(self, video):
            self.clips += 0 if video.requires_grad else len(video)
            return super().flow(video)

    teacher, generated = Counting(), noisy(batch).requires_grad_()
    cached, plain = FlowReward(teacher, cache_clips=3), FlowReward(DifferenceFlow())
    mirrored = replace(batch, video=batch.video.flip(-1), masks=batch.masks.flip(-1))
    for clips, computed in ((batch, 2), (batch, 2), (mirrored, 4), (mirrored, 4), (batch, 5)):
        assert torch.equal(cached(generated, clips), plain(generated, clips))
        assert teacher.clips == computed


@pytest.mark.parametrize(("reward_class", "method"), [(FlowReward, "flow"), (DepthReward, "depth")])
def test_the_teacher_sees_the_true_clip_of_a_group_once(
    batch: Batch, reward_class: type, method: str
) -> None:
    """Clips of a group share their true clip; that was computed as often as clips are drawn."""

    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clips: list[int] = []

        def forward(self, video):
            self.clips.append(len(video))
            return video[:, :2, 1:] if method == "flow" else video[:, 0]

    teacher = Teacher()
    setattr(teacher, method, teacher.forward)
    group = batch.clips(torch.tensor([0, 0, 0, 1, 1, 1]))
    generated = noisy(group)
    rewards = reward_class(teacher)(generated, group)
    assert teacher.clips == [2, 6]
    alone = [
        reward_class(teacher)(generated[[i]], group.clips(torch.tensor([i]))) for i in range(6)
    ]
    assert torch.allclose(rewards, torch.cat(alone), atol=1e-6)


def test_flow_by_object_counts_objects_alike_and_nothing_else(batch: Batch) -> None:
    """Clip 1 has two objects of 9 px in each frame; clip 0 has one and a padding mask."""
    generated = batch.video.clone()
    generated[:, 0, 1:, :, :3] += 0.5  # dx = 1 in the columns of object 0, in 1 of 2 flow steps
    reward = FlowReward(DifferenceFlow(), region="objects")(generated, batch)
    assert reward[0].item() == 0  # its only object is elsewhere
    assert reward[1].item() == pytest.approx(-0.5 * (1 / 2 * 1 / 2), abs=1e-6)
    bigger = replace(batch, masks=batch.masks.clone())
    bigger.masks[1, 0, :, :, :3] = True
    again = FlowReward(DifferenceFlow(), region="objects")(generated, bigger)
    assert again[1].item() == pytest.approx(reward[1].item(), rel=1e-5)


def test_depth_power_two_squares_in_grey_levels() -> None:
    class FirstChannel(nn.Module):
        def depth(self, video):
            return video[:, 0]

    video = torch.zeros(1, 3, 1, 1, 4)
    video[0, 0, 0, 0] = torch.tensor([0.0, 0.5, 0.5, 1.0])
    clip = Batch(("a",), video, torch.ones(1, 1, 1, 1, 4).bool(), ("",), 16.0, torch.ones(1))
    generated = video.clone()
    generated[0, 0, 0, 0, 1] = 0.7
    linear = DepthReward(FirstChannel(), power=1)(generated, clip).item()
    squared = DepthReward(FirstChannel(), power=2)(generated, clip).item()
    assert linear == pytest.approx(-51 / 4, rel=1e-4)
    assert squared == pytest.approx(-(51**2) / 4, rel=1e-4)


def test_depth_region_counts_only_what_has_changed() -> None:
    video = torch.zeros(1, 3, 2, 1, 4)
    video[0, 1, :, 0] = torch.tensor([0.0, 0.5, 0.5, 1.0])
    clip = Batch(("a",), video, torch.ones(1, 1, 2, 1, 4).bool(), ("",), 16.0, torch.ones(1))
    generated = video.clone()
    generated[0, 1, 1, 0, 1] = 0.7  # one pixel of frame 1
    everywhere = DepthReward(GreenDepth(), scale=1.0)(generated, clip).item()
    changed = DepthReward(GreenDepth(), scale=1.0, region="changed")(generated, clip).item()
    assert everywhere == pytest.approx(-0.2 / 8, rel=1e-4)
    assert changed == pytest.approx(-0.2, rel=1e-4)


def test_a_constant_depth_frame_stays_finite() -> None:
    depth = torch.full((1, 2, 4, 4), 3.0, requires_grad=True)
    normalised = normalised_per_frame(depth)
    normalised.sum().backward()
    assert (normalised == 0).all()
    assert torch.isfinite(depth.grad).all()


def test_weighted_sum_and_its_components(batch: Batch) -> None:
    generated = noisy(batch)
    mix = REWARDS["mix"]
    expected = 0.5 * REWARDS["flow"](generated, batch) + 2 * REWARDS["depth"](generated, batch)
    assert torch.allclose(mix(generated, batch), expected)
    assert set(mix.components(generated, batch)) == {"flow", "depth"}
    assert mix.name == "flow+depth"


def test_a_reward_of_weight_zero_is_not_computed(batch: Batch) -> None:
    class Breaks(nn.Module):
        name = "breaks"

        def forward(self, generated, batch):
            raise AssertionError("computed")

    mix = WeightedReward({"flow": REWARDS["flow"], "x": Breaks()}, {"flow": 2.0, "x": 0.0})
    generated = noisy(batch)
    assert torch.equal(mix(generated, batch), 2 * REWARDS["flow"](generated, batch))
    with pytest.raises(PisaError, match="are 0"):
        WeightedReward({"x": Breaks()}, {"x": 0.0})


def test_mix_refuses_other_names() -> None:
    with pytest.raises(PisaError, match="same names"):
        WeightedReward({"flow": REWARDS["flow"]}, {"depth": 1.0})


def test_official_scaling_clips_the_dark_half() -> None:
    video = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).expand(1, 3, 1, 1, 5)
    video = video.clone().requires_grad_()
    scaled = official_scaling(video)
    expected = torch.tensor([0.0, 0.0, 0.5, 128.0, 255.0]) / 127.5 - 1
    assert torch.allclose(scaled[0, 0, 0, 0], expected)
    scaled.sum().backward()
    assert (video.grad[..., :2] == 0).all()
    assert (video.grad[..., 2:4] == 2).all()


def test_no_gradient_reaches_the_truth(batch: Batch) -> None:
    truth = replace(batch, video=batch.video.clone().requires_grad_())
    for reward in REWARDS.values():
        value = reward(noisy(batch).requires_grad_(), truth).sum()
        value.backward()
    assert truth.video.grad is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FlowReward(DifferenceFlow(), region="movin"), "region .* all, moving, objects"),
        (lambda: FlowReward(DifferenceFlow(), blur_px=-1.0), "blur_px"),
        (lambda: FlowReward(DifferenceFlow(), cache_clips=-1), "cache_clips"),
        (lambda: DepthReward(GreenDepth(), region="moving"), "region .* all, changed"),
        (lambda: DepthReward(GreenDepth(), power=3), "power .* 1, 2"),
        (lambda: DepthReward(GreenDepth(), scale=float("nan")), "scale"),
        (lambda: SegmentationReward(ColourTracker(), objects="drop"), "objects .* dropping, all"),
        (lambda: SegmentationReward(ColourTracker(), eps=0.0), "eps"),
        (lambda: WeightedReward({"a": GreenReward()}, {"a": float("nan")}), "weights"),
    ],
)
def test_wrong_settings_are_refused(build, message: str) -> None:
    with pytest.raises(PisaError, match=message):
        build()


class GreenReward(DepthReward):
    def __init__(self) -> None:
        super().__init__(GreenDepth())


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_clip_or_truth_that_is_nan_gives_no_number(name: str, batch: Batch) -> None:
    """A masked mean must not hide it; the other clip keeps its value."""
    broken = noisy(batch)
    broken[1, :, 2] = float("nan")
    value = REWARDS[name](broken, batch)
    assert value[1].isnan() and value[0].isfinite()
