"""Teacher tasks: each overfits a tiny batch a little, and its metrics are right on known cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pisa.errors import PisaError
from pisa.perception.augment import augmented, degrade, gaussian_blur, mirror
from pisa.perception.embedded_depth import EmbeddedDepth
from pisa.perception.embedded_flow import EmbeddedFlow
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.tasks.teachers import (
    DepthTask,
    FlowTask,
    TeacherTask,
    TrackerTask,
    mask_loss,
    relative_error,
    tracked_iou,
)
from pisa.types import Batch

TASKS = [(TrackerTask, EmbeddedTracker), (FlowTask, EmbeddedFlow), (DepthTask, EmbeddedDepth)]
METRICS = {
    TrackerTask: {"val/mask_iou", "val/mask_iou_dropping"},
    FlowTask: {"val/epe", "val/epe_moving", "val/epe_zero", "val/epe_moving_zero"},
    DepthTask: {"val/depth_abs_rel", "val/depth_abs_rel_object"},
}


@pytest.fixture
def batch() -> Batch:
    """Two clips of a square that falls 2 px a frame in front of a wall 4 m away."""
    torch.manual_seed(0)
    video = 0.4 * torch.rand(2, 3, 1, 32, 32).repeat(1, 1, 4, 1, 1) - 0.8
    masks = torch.zeros(2, 2, 4, 32, 32, dtype=torch.bool)
    for t in range(4):
        masks[:, 1, t, 4 + 2 * t : 14 + 2 * t, 8:18] = True
        masks[1, 0, t, 22:30, 22:30] = True
    video = torch.where(masks[:, None, 1], 0.7, video)
    flow = torch.zeros(2, 2, 3, 32, 32)
    flow[:, 1] = 2.0 * masks[:, 1, :-1]
    return Batch(
        names=("a", "b"),
        video=video,
        masks=masks,
        captions=("", ""),
        fps_hz=16.0,
        drop_height_m=torch.ones(2),
        depth_m=torch.where(masks.any(dim=1), 2.0, 4.0),
        flow_px=flow,
    )


def logged(task: TeacherTask, batch: Batch) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    task.log = lambda key, value, **_: values.update({key: value})  # type: ignore[method-assign]
    with torch.no_grad():
        task.validation_step(batch, 0)
    return values


@pytest.mark.parametrize(("task_cls", "network_cls"), TASKS)
def test_a_few_steps_lower_the_loss(task_cls: type, network_cls: type, batch: Batch) -> None:
    torch.manual_seed(0)
    task = task_cls(network_cls(), lr=3e-3, total_steps=40, warmup_steps=2)
    optimizer = task.configure_optimizers()["optimizer"]

    def loss() -> Tensor:
        return task.loss(batch, torch.Generator().manual_seed(3))

    before = loss().item()
    for _ in range(8):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.9 * before


@pytest.mark.parametrize(("task_cls", "network_cls"), TASKS)
def test_validation_logs_finite_metrics(task_cls: type, network_cls: type, batch: Batch) -> None:
    values = logged(task_cls(network_cls()), batch)
    assert set(values) == METRICS[task_cls]
    assert all(torch.isfinite(value) for value in values.values())


def test_zero_flow_scores_the_mean_motion(batch: Batch) -> None:
    task = FlowTask(EmbeddedFlow())
    task.network.flow = lambda video: torch.zeros_like(batch.flow_px)  # type: ignore[method-assign]
    values = logged(task, batch)
    assert values["val/epe_moving"].item() == pytest.approx(2.0)
    assert values["val/epe"].item() == pytest.approx(2.0 * 100 / 32**2)


def test_missing_truth_is_named(batch: Batch) -> None:
    with pytest.raises(PisaError, match="flow_px"):
        logged(FlowTask(EmbeddedFlow()), replace(batch, flow_px=None))
    with pytest.raises(PisaError, match="depth_m"):
        logged(DepthTask(EmbeddedDepth()), replace(batch, depth_m=None))


def test_tracked_iou_skips_what_cannot_be_scored(batch: Batch) -> None:
    iou = tracked_iou(batch.masks, batch.masks)
    assert iou[:, :, 0].isnan().all()
    assert iou[0, 0].isnan().all()  # padding
    assert (iou[1, :, 1:] == 1).all()
    assert (tracked_iou(~batch.masks, batch.masks)[1, :, 1:] == 0).all()


def test_relative_error_ignores_scale_and_shift() -> None:
    truth = torch.rand(1, 2, 8, 8) + 0.5
    assert relative_error(3 * truth - 1, truth).max() < 1e-4
    assert relative_error(torch.rand(1, 2, 8, 8), truth).mean() > 0.05


def test_mask_loss_is_lowest_at_the_truth(batch: Batch) -> None:
    right = torch.where(batch.masks, 12.0, -12.0)
    assert mask_loss(right, batch.masks) < 1e-2
    assert mask_loss(0 * right, batch.masks) < mask_loss(-right, batch.masks)


def test_mirror_keeps_flow_consistent_with_motion(batch: Batch) -> None:
    batch.flow_px[:, 0] = 1.5
    mirrored = mirror(batch)
    assert (mirrored.flow_px[:, 0] == -1.5).all()
    assert torch.equal(mirrored.flow_px[:, 1], batch.flow_px[:, 1].flip(-1))
    again = mirror(mirrored)
    assert torch.equal(again.video, batch.video)
    assert torch.equal(again.flow_px, batch.flow_px)


def test_blur_keeps_the_mean_and_zero_width_changes_nothing() -> None:
    video = torch.zeros(2, 3, 2, 15, 15)
    video[:, :, :, 7, 7] = 1
    blurred = gaussian_blur(video, torch.tensor([0.0, 1.0]))
    assert torch.allclose(blurred[0], video[0], atol=1e-6)
    assert blurred[1].sum().item() == pytest.approx(video[1].sum().item(), rel=1e-4)
    assert blurred[1, 0, 0, 7, 7].item() == pytest.approx(0.159, abs=0.005)  # 1 / (2 pi)


def test_augmentation_repeats_with_its_generator_and_stays_in_range(batch: Batch) -> None:
    once, again = (augmented(batch, torch.Generator().manual_seed(5)).video for _ in range(2))
    assert torch.equal(once, again)
    assert once.abs().max() <= 1
    assert not torch.equal(degrade(batch.video, torch.Generator().manual_seed(6)), batch.video)
