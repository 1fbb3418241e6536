"""The paper's teachers with random weights on the "meta" device, to count what rewards take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pisa.perception.sam2 import SAM2Tracker
from pisa.perception.sam2_network import build_sam2
from pisa.rewards.depth import DepthReward
from pisa.rewards.flow import FlowReward
from pisa.rewards.segmentation import soft_iou
from pisa.tasks.oro_memory import Job
from pisa.types import Batch

SAM2_SIDE, DEPTH_SIDE = 256, 518  # what teachers resize frames to: configs/perception/pretrained


@dataclass(frozen=True)
class Row:
    """Of the paper's Table 1. ``override`` sets the teacher's chunk in ``train.py``."""

    experiment: str
    override: str


REWARDS = {
    "flow": Row("flow", "perception.flow.pairs_per_chunk={}"),
    "segmentation": Row("seg", "perception.tracker.recompute_frames=true"),
    "depth": Row("depth", "perception.depth.frames_per_chunk={}"),
}


@dataclass(frozen=True)
class Teacher:
    """``score(job, chunk)`` scores generated clips; ``chunks``: any chunk, else None or 1."""

    network: nn.Module
    score: Callable[[Job, int | None], Callable[[Tensor], Tensor]]
    chunks: bool = True


def build_teacher(reward: str) -> Teacher:
    """RAFT, SAM 2.1 Hiera-L or Depth-Anything-V2-Small, as at ``scale=paper``."""
    return {"flow": _flow, "segmentation": _segmentation, "depth": _depth}[reward]()


def _flow() -> Teacher:
    from torchvision.models.optical_flow import raft_large

    from pisa.perception.raft import RAFT

    with torch.device("meta"):
        network = raft_large(weights=None)

    def score(job: Job, chunk: int | None) -> Callable[[Tensor], Tensor]:
        reward, batch = FlowReward(RAFT(network, pairs_per_chunk=chunk)), _clip(job)
        return lambda video: reward(video, batch)

    return Teacher(network, score)


def _depth() -> Teacher:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    from pisa.perception.depth_anything import DepthAnything

    backbone = Dinov2Config(  # of Depth-Anything-V2-Small-hf
        image_size=DEPTH_SIDE,
        patch_size=14,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        out_features=["stage3", "stage6", "stage9", "stage12"],  # type: ignore[call-arg]
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
    )
    with torch.device("meta"):
        network = DepthAnythingForDepthEstimation(config)

    def score(job: Job, chunk: int | None) -> Callable[[Tensor], Tensor]:
        estimator = DepthAnything(network, DEPTH_SIDE, frames_per_chunk=chunk)
        reward, batch = DepthReward(estimator), _clip(job)
        return lambda video: reward(video, batch)

    return Teacher(network, score)


def _segmentation() -> Teacher:
    with torch.device("meta"):
        network = build_sam2(image_size=SAM2_SIDE)

    def score(job: Job, chunk: int | None) -> Callable[[Tensor], Tensor]:
        tracker = SAM2Tracker(network, recompute_frames=chunk is not None)

        def iou(video: Tensor) -> Tensor:
            """``SegmentationReward`` of one object that is seen: "meta" has no values to ask."""
            soft = tracker.track(video[0], _clip(job).masks[0, :, 0]).sigmoid()[None]
            return soft_iou(soft, torch.ones_like(soft), 1e-6)

        return iou

    return Teacher(network, score, chunks=False)


def _clip(job: Job) -> Batch:
    frames, side = job.num_frames, job.size_px
    with torch.device("meta"):
        video = torch.empty(1, 3, frames, side, side)
        masks = torch.empty(1, 1, frames, side, side, dtype=torch.bool)
        return Batch(("clip",), video, masks, ("",), 16.0, torch.empty(1))
