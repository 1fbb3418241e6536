"""The rewards of the paper with teachers of random, unstored weights: to count what they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from pisa.doctor.live_bytes import Unstored
from pisa.rewards.depth import DepthReward
from pisa.rewards.flow import FlowReward
from pisa.rewards.segmentation import SegmentationReward

SAM2_SIDE, DEPTH_SIDE = 256, 518  # what teachers resize frames to: configs/perception/pretrained


class RewardRow(NamedTuple):
    """A reward of the paper's Table 1, for planning."""

    build: Callable[[Unstored, int | None], nn.Module]  # (sizes, chunk), as at scale=paper
    experiment: str
    override: str  # sets the chunk in train.py
    chunks: tuple[int | None, ...] = (None, 8, 2)  # frames or pairs at a time; None: all


def _flow(sizes: Unstored, chunk: int | None) -> nn.Module:
    from torchvision.models.optical_flow import raft_large

    from pisa.perception.raft import RAFT

    with torch.device("meta"):
        network = raft_large(weights=None)
    return FlowReward(RAFT(sizes.module(network), pairs_per_chunk=chunk))


def _segmentation(sizes: Unstored, chunk: int | None) -> nn.Module:
    from pisa.perception.sam2 import SAM2Tracker
    from pisa.perception.sam2_network import build_sam2

    network = build_sam2(image_size=SAM2_SIDE)  # asks for values, so "meta" will not do
    tracker = SAM2Tracker(sizes.module(network), recompute_frames=chunk is not None)
    return SegmentationReward(tracker)


def depth_anything_small() -> nn.Module:
    """A network of the size of Depth-Anything-V2-Small-hf, random weights, for frames of 518 px."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    return DepthAnythingForDepthEstimation(DepthAnythingConfig())


def _depth(sizes: Unstored, chunk: int | None) -> nn.Module:
    from pisa.perception.depth_anything import DepthAnything

    with torch.device("meta"):
        network = depth_anything_small()
    return DepthReward(DepthAnything(sizes.module(network), DEPTH_SIDE, frames_per_chunk=chunk))


REWARDS = {
    "flow": RewardRow(_flow, "flow", "perception.flow.pairs_per_chunk={}"),
    "segmentation": RewardRow(
        _segmentation, "seg", "perception.reward_tracker.recompute_frames=true", (None, 1)
    ),
    "depth": RewardRow(_depth, "depth", "perception.depth.frames_per_chunk={}"),
}
