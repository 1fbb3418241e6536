"""Muon beside AdamW: who updates what, schedules reach both, a saved state continues exactly."""

import copy

import pytest
import torch
from torch import nn

from pisa.errors import PisaError
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.tasks.optim import MuonAdamW, warmup_cosine


def network() -> TinyDenoiser:
    torch.manual_seed(0)
    return TinyDenoiser(num_frames=2, size_px=16, patch=8, width=16, depth=1, num_heads=2)


def give_gradients(denoiser: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in denoiser.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_hidden_matrices_follow_muon_and_the_rest_adamw():
    denoiser, alone = network(), network()
    optimizer = MuonAdamW(denoiser, 1e-2)
    hidden = [m.weight for m in alone.blocks.modules() if isinstance(m, nn.Linear)]
    muon = torch.optim.Muon(hidden, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([alone.embed.weight], lr=1e-2, eps=1e-15, weight_decay=0.0)
    for seed in range(2):
        for net in (denoiser, alone):
            give_gradients(net, seed)
        for each in (optimizer, muon, adamw):
            each.step()
    for name in ("qkv", "attention_out", "mlp_in", "mlp_out"):
        ours, theirs = (getattr(n.blocks[0], name).weight for n in (denoiser, alone))
        assert torch.equal(ours, theirs)
    assert torch.equal(denoiser.embed.weight, alone.embed.weight)
    assert (denoiser.blocks[0].qkv.bias != alone.blocks[0].qkv.bias).any()


def test_a_schedule_reaches_both():
    optimizer = MuonAdamW(network(), 1e-2)
    schedule = warmup_cosine(optimizer, 0, 10)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    rates = {group["lr"] for part in optimizer.parts.values() for group in part.param_groups}
    assert all(rate == pytest.approx(5e-3) for rate in rates)


def test_a_saved_state_continues_exactly():
    denoiser = network()
    optimizer = MuonAdamW(denoiser, 1e-2)
    give_gradients(denoiser, 0)
    optimizer.step()
    other = copy.deepcopy(denoiser)
    resumed = MuonAdamW(other, 1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for net, each in ((denoiser, optimizer), (other, resumed)):
        give_gradients(net, 1)
        each.step()
    for ours, theirs in zip(denoiser.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_network_without_blocks_is_refused():
    with pytest.raises(PisaError, match="linear layers inside blocks"):
        MuonAdamW(nn.Sequential(nn.Linear(2, 2)), 1e-2)
