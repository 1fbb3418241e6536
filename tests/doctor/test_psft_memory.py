"""Memory by counting without storage, against closed forms and the released sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pisa.doctor.live_bytes import LiveBytes, Unstored
from pisa.doctor.psft_memory import (
    TOKENS,
    Activations,
    count,
    denoiser_activations,
    kept_by_component,
    needed_bytes,
    state_bytes,
)
from pisa.models.opensora import STDiT3


def unstored(**settings):
    sizes = Unstored()
    with torch.device("meta"):
        network = STDiT3(caption_channels=16, **settings)
    return sizes.module(network), sizes


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


@pytest.mark.parametrize("checkpointing", [False, True])
def test_counted_activations_are_those_of_a_real_step(checkpointing):
    """With attention fused: the score matrices of these 64 patches would be a third of it all."""
    latent, settings = (4, 16, 16), {"hidden_size": 32, "depth": 1, "num_heads": 4}
    counted = denoiser_activations(*unstored(**settings), latent, 2, checkpointing)
    real = STDiT3(caption_channels=16, grad_checkpoint=checkpointing, **settings)
    x, caption = torch.randn(2, 4, *latent), torch.randn(2, 1, TOKENS, 16)
    mask, made = torch.ones(2, TOKENS, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    side = torch.tensor([128.0])
    with LiveBytes() as live:
        out = real(x, torch.ones(2), caption, mask, made, torch.ones(1), side, side)
        kept = live.now
        out.sum().backward()
    assert counted.kept == pytest.approx(kept, rel=0.02)
    assert counted.peak == pytest.approx(live.peak, rel=0.02)


def test_activations_grow_with_clips_and_shrink_with_recomputing():
    network, sizes = unstored(hidden_size=64, depth=3, num_heads=4)
    latent = (4, 8, 8)
    kept, recomputed, double = (
        denoiser_activations(network, sizes, latent, clips, checkpointing)
        for clips, checkpointing in ((4, False), (4, True), (8, True))
    )
    assert kept.kept > 5 * recomputed.kept
    assert kept.peak > recomputed.peak > recomputed.kept
    assert 1.9 < double.kept / recomputed.kept <= 2.0


def test_each_block_adds_its_input_and_nothing_more():
    kept = []
    for depth in (3, 6):
        network, sizes = unstored(hidden_size=64, depth=depth, num_heads=4)
        kept.append(denoiser_activations(network, sizes, (4, 8, 8), 4, checkpointing=True).kept)
    one_input = 4 * 4 * 16 * 64 * 4  # clips, frames, patches, channels, bytes
    assert kept[1] - kept[0] == 6 * one_input  # three more of each kind


def test_what_components_keep_adds_up():
    """But for the few tensors made between components, and those that outlive one for a moment."""
    network, sizes = unstored(hidden_size=64, depth=3, num_heads=4)
    parts = kept_by_component(network, sizes, (4, 8, 8), 4)
    whole = denoiser_activations(network, sizes, (4, 8, 8), 4, checkpointing=False).kept
    assert {"spatial_blocks", "temporal_blocks", "final_layer", "y_embedder"} <= parts.keys()
    assert sum(parts.values()) == pytest.approx(whole, rel=0.02)
    assert parts["spatial_blocks"] + parts["temporal_blocks"] > 0.9 * whole
    assert not network.spatial_blocks[0]._forward_hooks


def test_state_of_the_released_size():
    with torch.device("meta"):
        network = STDiT3(freeze_y_embedder=True)
    parameters = count(network)
    assert parameters == 1_207_643_972  # ../parity/data/stdit3_xl2_keys.json.gz
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    state = state_bytes(parameters, trainable)
    assert sum(state.values()) == 4 * parameters + 16 * trainable
    alone, halved = (needed_bytes(state, Activations(0, 100), 50, n) for n in (1, 2))
    assert alone == sum(state.values()) + 100
    assert halved == sum(state.values()) // 2 + 100
