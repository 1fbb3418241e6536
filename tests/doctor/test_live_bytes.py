"""Bytes counted without storage, against closed forms and real steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pisa.doctor.live_bytes import LiveBytes, Unstored
from pisa.doctor.planner import Activations, Counter, Job
from pisa.models.opensora import OpenSoraVAE, STDiT3
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.models.tiny_text import WordHashEncoder
from pisa.types import Condition
from tests.doctor.test_planner import SPATIAL

JOB = Job(num_frames=17, size_px=64)  # latents of 5 frames of 8x8


def test_live_bytes_of_linear_layers():
    """Each of three layers keeps its input (the first one's existed) and a GELU keeps its own."""
    with torch.device("meta"):
        network = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(3)])
        x = torch.empty(10, 8)
    size = 10 * 8 * 4
    with LiveBytes() as live:
        out = network(x)
        assert live.now == 6 * size  # three outputs of linear layers, three of GELUs
        del out
        assert live.now == 0
    assert live.peak == 6 * size


def test_views_and_in_place_results_count_once():
    with torch.device("meta"), LiveBytes() as live:
        x = torch.empty(4, 4)
        y = x.view(16).add_(1)
        assert live.now == 64
        del x, y
        assert live.now == 0


def test_recomputing_keeps_block_inputs_only():
    with torch.device("meta"):
        blocks = [nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(5)]
        x = torch.empty(10, 8, requires_grad=True)
    with LiveBytes() as live:
        hidden = x
        for block in blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        assert live.now == 5 * 10 * 8 * 4


def small(recompute: bool = False, **settings) -> OpenSoraModel:
    network = STDiT3(
        caption_channels=16, grad_checkpoint=recompute, class_dropout_prob=0.0, **settings
    )
    temporal = {"filters": 8, "num_res_blocks": 1, "num_groups": 4}
    return OpenSoraModel(network, OpenSoraVAE(SPATIAL, temporal), WordHashEncoder(16, 300))


def counted(clips: int, recompute: bool, job: Job = JOB, **settings) -> Activations:
    with torch.device("meta"):
        model = small(recompute, **settings)
    sizes = Unstored()
    return Counter(sizes.module(model), sizes, job, autocast=False).psft(clips)


@pytest.mark.parametrize("recompute", [False, True])
def test_counted_activations_are_those_of_a_real_step(recompute):
    """With attention fused: the score matrices of these 64 patches would be a third of it all."""
    job, settings = Job(num_frames=17, size_px=128), {"hidden_size": 32, "depth": 1, "num_heads": 4}
    found = counted(2, recompute, job, **settings)
    model = small(recompute, **settings)
    shape = model.latent_shape(17, 128, 128)
    latents, noise = torch.randn(2, *shape), torch.randn(2, *shape)
    prompt = Condition(torch.randn(2, 300, 16), torch.ones(2, 300, dtype=torch.bool))
    with LiveBytes() as live:
        x = torch.lerp(latents, noise, 0.5)
        given = model.given_frames(x)
        velocity = model.velocity(x, torch.rand(2), prompt, given, fps_hz=16.0)
        loss = (velocity - (noise - latents)).square().mean()
        kept = live.now
        loss.backward()
    assert found.kept == pytest.approx(kept, rel=0.02)
    assert found.peak == pytest.approx(live.peak, rel=0.02)


def test_activations_grow_with_clips_and_shrink_with_recomputing():
    settings = {"hidden_size": 64, "depth": 3, "num_heads": 4}
    kept, recomputed, double = (
        counted(clips, recompute, **settings)
        for clips, recompute in ((4, False), (4, True), (8, True))
    )
    assert kept.kept > 5 * recomputed.kept
    assert kept.peak > recomputed.peak > recomputed.kept
    assert 1.9 < double.kept / recomputed.kept <= 2.0


def test_each_block_adds_its_input_and_nothing_more():
    kept = [counted(4, True, hidden_size=64, depth=depth, num_heads=4).kept for depth in (3, 6)]
    one_input = 4 * 5 * 16 * 64 * 4  # clips, frames, patches, channels, bytes
    assert kept[1] - kept[0] == 6 * one_input  # three more of each kind
