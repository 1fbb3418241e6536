"""Replay gives the gradients of a plain backward pass, at the memory of one step."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.path import CleanFrames
from pisa.diffusion.replay import Replay
from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError

SHAPE = (2, 3, 4, 2, 2)
STEPS = 5


class Field(nn.Module):
    """A velocity with two parameters that share a gradient, one that is unused, and dropout."""

    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = nn.Linear(2, 16, dtype=dtype), nn.Linear(16, 2, dtype=dtype)
        self.left, self.right = (nn.Parameter(torch.zeros(16, dtype=dtype)) for _ in range(2))
        self.unused = nn.Parameter(torch.zeros(3, dtype=dtype))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, s):
        level = s.to(x.dtype)[:, None, None, None, None]
        shift = self.left + self.right
        return self.out(self.dropout(torch.tanh(self.hidden(x) + shift + level)))


def noise(dtype=torch.float64):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=dtype)


def sample(field, steps=STEPS, x=None, **options):
    x = noise(field.out.weight.dtype) if x is None else x
    clean_frames = torch.tensor([[True, False, False, False]] * 2)
    clean = x.detach()[:, :, :1].clone().fill_(0.3)
    levels = inference_noise_levels(steps, 1.5)
    return Euler(**options).sample(field, x, levels, clean=CleanFrames(clean, clean_frames))


def gradients(field, loss):
    loss.backward()
    found = {name: p.grad for name, p in field.named_parameters()}
    field.zero_grad(set_to_none=True)
    return found


def replay_of(field, **options):
    return Replay(tuple(field.parameters()), **options)


def assert_equal(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert found[name] is None, name
        else:
            error = (found[name] - value).abs().max() / value.abs().max()
            assert value.abs().max() > 0 and error < tolerance, (name, error)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_all_steps_give_the_full_gradient(dtype, tolerance, dropout):
    field, found, ends = Field(dropout, dtype), [], []
    for options in ({}, {"replay": replay_of(field)}):
        torch.manual_seed(3)
        x = noise(dtype).requires_grad_()
        end = sample(field, x=x, **options)
        found.append(gradients(field, end.square().mean()) | {"x": x.grad})
        ends.append(end.detach())
    assert torch.equal(*ends)
    assert_equal(found[1], found[0], tolerance)
    assert found[0]["unused"] is None


@pytest.mark.parametrize("active", [{4}, {0, 1}, {1, 3}])
def test_constant_other_steps_are_those_of_a_chain_without_their_gradient(active):
    field = Field()
    expected = gradients(field, sample(field, grad_steps=active).square().mean())
    end = sample(field, grad_steps=active, replay=replay_of(field))
    assert_equal(gradients(field, end.square().mean()), expected, 1e-12)


def test_frozen_other_steps_give_the_terms_of_the_full_gradient():
    """Against a chain with a copy of the weights in every step."""
    copies = [Field() for _ in range(STEPS)]
    levels = inference_noise_levels(STEPS, 1.5)[:-1].tolist()

    def velocity(x, s):
        return copies[levels.index(s[0].item())](x, s)

    clean_frames = torch.tensor([[True, False, False, False]] * 2)
    end = Euler().sample(
        velocity,
        noise(),
        inference_noise_levels(STEPS, 1.5),
        clean=CleanFrames(noise()[:, :, :1].fill_(0.3), clean_frames),
    )
    end.square().mean().backward()
    terms = [{n: p.grad for n, p in copy.named_parameters()} for copy in copies]
    for step in range(STEPS):
        field = Field()
        end = sample(field, grad_steps={step}, replay=replay_of(field, other_steps="frozen"))
        assert_equal(gradients(field, end.square().mean()), terms[step], 1e-12)


def test_the_terms_are_reported_from_the_last_step_to_the_first():
    field, seen = Field(), []
    replay = replay_of(field, on_gradient=lambda step, own: seen.append((step, own[0])))
    total = gradients(field, sample(field, replay=replay).square().mean())["left"]
    assert [step for step, _ in seen] == [4, 3, 2, 1, 0]
    name = next(iter(dict(field.named_parameters())))
    assert name == "left"
    torch.testing.assert_close(sum(own for _, own in seen), total)


def kept_bytes(steps, active=None, **options):
    """Bytes autograd keeps: at the end of the forward pass, and at most during backward."""
    live, peak = {}, [0]

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        kept = Kept(tensor)
        if not isinstance(tensor, nn.Parameter):
            live[id(kept)] = tensor.nbytes
            weakref.finalize(kept, live.pop, id(kept))
        peak[0] = max(peak[0], sum(live.values()))
        return kept

    field = Field()
    if options.pop("replayed", False):
        options["replay"] = replay_of(field, **options)
        options.pop("other_steps", None)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        end = sample(field, steps, grad_steps=active, **options)
        after_forward = sum(live.values())
        gradients(field, end.sum())
    assert sum(live.values()) == 0
    return after_forward, peak[0]


def test_memory_is_one_step_whatever_the_number_of_steps():
    latents = noise().nbytes
    plain = {steps: kept_bytes(steps)[1] for steps in (4, 16)}
    assert plain[16] > 3.9 * plain[4]
    few, many = (kept_bytes(steps, replayed=True) for steps in (4, 16))
    assert (few[0], many[0]) == (4 * latents, 16 * latents)  # the inputs of the steps, no more
    assert many[1] - few[1] == many[0] - few[0]
    assert few[1] - few[0] < plain[4] / 3
    subset = kept_bytes(16, active={0, 9}, replayed=True)
    assert subset == kept_bytes(4, active={0, 2}, replayed=True)


def test_nothing_is_kept_without_gradient():
    field = Field()
    with torch.no_grad():
        assert not sample(field, replay=replay_of(field)).requires_grad


@pytest.mark.parametrize("replayed", [False, True])
def test_autocast_is_that_of_the_forward_pass(replayed):
    """Also: weights cast without gradient in one step must not serve a step with gradient."""
    field, seen = Field(dtype=torch.float32), []

    class Watched(nn.Module):
        def forward(self, x, s):
            found = field(x, s)
            seen.append((found.dtype, torch.is_grad_enabled()))
            return found

    options = {"replay": replay_of(field)} if replayed else {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = (
            Euler(grad_steps={1, 2}, **options)
            .sample(Watched(), noise(torch.float32), inference_noise_levels(3))
            .square()
            .mean()
        )
    found = gradients(field, loss)
    assert {dtype for dtype, _ in seen} == {torch.bfloat16}
    exact = gradients(
        field,
        Euler(grad_steps={1, 2})
        .sample(field, noise(torch.float32), inference_noise_levels(3))
        .square()
        .mean(),
    )
    for name in ("hidden.weight", "out.weight"):
        assert found[name] is not None
        torch.testing.assert_close(found[name], exact[name], rtol=0.05, atol=2e-3)


def test_inside_distributed_data_parallel(tmp_path):
    """Every parameter is ready exactly once, and the reduced gradient is the full one."""

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.field = Field(dtype=torch.float32)
            del self.field.unused

        def forward(self, replayed):
            options = {"replay": replay_of(self.field)} if replayed else {}
            return sample(self.field, **options).square().mean()

    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    try:
        model = Loss()
        expected = gradients(model.field, model(False))
        wrapped = DistributedDataParallel(model)
        for _ in range(2):  # a second pass fails if a parameter was missed in the first
            assert_equal(gradients(model.field, wrapped(True)), expected, 1e-6)
    finally:
        dist.destroy_process_group()


def test_refuses_an_unknown_choice_and_a_change_of_weights_before_backward():
    field = Field()
    with pytest.raises((PisaError, TypeError), match="other_steps"):  # the latter: typed tests
        replay_of(field, other_steps="identity")
    loss = sample(field, replay=replay_of(field)).sum()
    with torch.no_grad():
        field.left.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_equal_norm_in_closed_form():
    """Step k moves x by width_k theta_k, so its gradient is width_k times the number of entries."""
    levels = inference_noise_levels(4, 3.0)
    theta = torch.tensor([1.0, -2.0, 0.5, 3.0], requires_grad=True)

    def velocity(x, s):
        step = (levels[:-1] - s[0]).abs().argmin()
        return theta[step] * torch.ones_like(x)

    def gradient(**options):
        x = noise(torch.float32)
        end = Euler(replay=Replay((theta,), **options)).sample(velocity, x, levels)
        return torch.autograd.grad(end.sum(), theta)[0]

    plain = levels.diff() * noise().numel()
    torch.testing.assert_close(gradient(), plain)
    torch.testing.assert_close(gradient(equal_norm=True), plain.mean().expand(4))


@pytest.mark.parametrize("active", [{0, 1, 2, 3, 4}, {0, 3}])
def test_equal_norm_sums_the_directions_of_the_terms(active):
    field, terms = Field(), []

    def keep(step, own):
        terms.append([torch.zeros(3) if term is None else term for term in own])

    replay = replay_of(field, other_steps="frozen", on_gradient=keep, equal_norm=True)
    end = sample(field, grad_steps=active, replay=replay)
    found = gradients(field, end.square().mean())
    norms = [torch.cat([part.flatten() for part in term]).norm().item() for term in terms]
    assert len(terms) == len(active) and max(norms) > 1.2 * min(norms)
    mean = sum(norms) / len(norms)
    for i, name in enumerate(found):
        expected = mean * sum(term[i] / norm for term, norm in zip(terms, norms, strict=True))
        if found[name] is None:
            assert name == "unused"
        else:
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-9)


def test_a_step_without_gradient_adds_nothing_to_equal_norms():
    weight = torch.tensor(0.0, requires_grad=True)
    end = Euler(replay=Replay((weight,), equal_norm=True)).sample(
        lambda x, s: weight * 0 * x, noise(), inference_noise_levels(3)
    )
    (gradient,) = torch.autograd.grad(end.sum(), weight)
    assert gradient == 0
