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
    from pisa.perception.raft import RAFT

    with torch.device("meta"):
        teacher = RAFT.random(pairs_per_chunk=chunk)
    return FlowReward(sizes.module(teacher))


def _segmentation(sizes: Unstored, chunk: int | None) -> nn.Module:
    from pisa.perception.sam2 import SAM2Tracker

    # Building it asks for values, so "meta" will not do.
    tracker = SAM2Tracker.random(image_size=SAM2_SIDE, recompute_frames=chunk is not None)
    return SegmentationReward(sizes.module(tracker))


def _depth(sizes: Unstored, chunk: int | None) -> nn.Module:
    from pisa.perception.depth_anything import DepthAnything

    with torch.device("meta"):
        teacher = DepthAnything.random(DEPTH_SIDE, chunk)
    return DepthReward(sizes.module(teacher))


REWARDS = {
    "flow": RewardRow(_flow, "flow", "perception.flow.pairs_per_chunk={}"),
    "segmentation": RewardRow(
        _segmentation, "seg", "perception.reward_tracker.recompute_frames=true", (None, 1)
    ),
    "depth": RewardRow(_depth, "depth", "perception.depth.frames_per_chunk={}"),
}
