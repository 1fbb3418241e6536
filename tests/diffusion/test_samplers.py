"""Samplers against closed forms: a straight path is solved exactly, u = x in one known factor."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.path import CleanFrames
from pisa.diffusion.samplers import Ancestral, Euler, guided_velocity

SHAPE = (2, 3, 4, 2, 2)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_straight_path_is_followed_exactly(steps):
    x0, noise = draw(0), draw(1)
    final = Euler().sample(lambda x, s: noise - x0, noise, inference_noise_levels(steps, 2.0))
    torch.testing.assert_close(final, x0)


def test_without_fresh_noise_the_ancestral_sampler_takes_euler_steps():
    levels = inference_noise_levels(6, 3.0)
    noise, clean = draw(1), draw(2)
    given = CleanFrames(clean, torch.tensor([[True, False, False, True]] * 2))
    curved = lambda x, s: x.sin() + s[:, None, None, None, None]  # noqa: E731
    plain = Euler().sample(curved, noise, levels, clean=given)
    found = Ancestral(0.0, draw).sample(curved, noise, levels, clean=given)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_ancestral_sampler_keeps_a_normal_distribution(eta):
    """Clips of N(mean, sd^2) have a velocity in closed form; few steps would shrink the spread."""
    mean, sd, size = 0.7, 0.4, 20_000
    generator = torch.Generator().manual_seed(0)

    def velocity(x, s):
        level = s[:, None, None, None, None]
        total = ((1 - level) * sd) ** 2 + level**2
        x0 = mean + (1 - level) * sd**2 / total * (x - (1 - level) * mean)
        return (x - x0) / level

    def fresh(step):
        return torch.randn(size, 1, 1, 1, 1, generator=generator)

    final = Ancestral(eta, fresh).sample(velocity, fresh(0), inference_noise_levels(400))
    assert final.mean() == pytest.approx(mean, abs=0.01)
    assert final.std() == pytest.approx(sd, abs=0.01)
    with pytest.raises(ValueError, match="eta"):
        Ancestral(1.5, fresh)


def test_linear_decay_and_its_gradient():
    """du = a x gives the factor prod(1 - a ds); d/da is checked against it."""
    levels = inference_noise_levels(6, 1.5)
    noise = draw(1)
    rate = torch.tensor(0.7, requires_grad=True)
    final = Euler().sample(lambda x, s: rate * x, noise, levels)
    (gradient,) = torch.autograd.grad(final.sum(), rate)
    free = torch.tensor(0.7, requires_grad=True)
    factor = (1 + free * levels.diff()).prod()
    torch.testing.assert_close(final, factor * noise)
    (expected,) = torch.autograd.grad(factor * noise.sum(), free)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("sampler", [Euler(), Ancestral(1.0, draw)])
def test_velocity_sees_descending_levels(sampler):
    seen, done = [], []

    def velocity(x, s):
        seen.append(s)
        return torch.zeros_like(x)

    levels = inference_noise_levels(3)
    sampler.sample(velocity, draw(0), levels, on_step=lambda step, x: done.append(step))
    assert done == [0, 1, 2]
    torch.testing.assert_close(torch.stack(seen), levels[:-1, None].expand(3, 2))


def test_clean_frames_are_restored_every_step():
    clean = draw(5)[:, :, :1]
    clean_frames = torch.tensor([[True, False, False, False]] * 2)

    def velocity(x, s):
        assert torch.equal(x[:, :, 0], clean[:, :, 0])
        return torch.ones_like(x)

    noise = draw(1)
    levels = inference_noise_levels(4)
    final = Euler().sample(velocity, noise, levels, clean=CleanFrames(clean, clean_frames))
    assert torch.equal(final[:, :, 0], clean[:, :, 0])
    torch.testing.assert_close(final[:, :, 1:], noise[:, :, 1:] - 1)


def chain_gradient(**options) -> torch.Tensor:
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 2)
    final = Euler(**options).sample(
        lambda x, s: torch.tanh(layer(x)), draw(1), inference_noise_levels(5)
    )
    return torch.autograd.grad(final.square().sum(), layer.weight)[0]


def test_checkpointing_gives_the_same_gradient():
    torch.testing.assert_close(chain_gradient(checkpoint=True), chain_gradient())


def test_grad_steps_all_is_the_full_gradient_and_fewer_differ():
    torch.testing.assert_close(chain_gradient(grad_steps=range(5)), chain_gradient())
    assert not torch.allclose(chain_gradient(grad_steps={4}), chain_gradient())


@pytest.mark.parametrize("grad_steps", [{4}, {1, 3}])
def test_gradient_of_chosen_steps_only(grad_steps):
    """Against a chain written out, in which the other velocities are constants."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 2)
    x, levels = draw(1), inference_noise_levels(5)
    for step, width in enumerate(levels.diff()):
        velocity = torch.tanh(layer(x))
        x = x + width * (velocity if step in grad_steps else velocity.detach())
    (expected,) = torch.autograd.grad(x.square().sum(), layer.weight)
    torch.testing.assert_close(chain_gradient(grad_steps=grad_steps), expected)


def test_no_grad_of_the_caller_is_respected():
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        final = Euler(checkpoint=True).sample(
            lambda x, s: layer(x), draw(1), inference_noise_levels(2)
        )
    assert not final.requires_grad


def test_refuses_steps_out_of_range():
    levels = inference_noise_levels(2)
    with pytest.raises(ValueError, match="out of range"):
        Euler(grad_steps={2}).sample(lambda x, s: x, draw(0), levels)


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 2), (4.0, 4)])
def test_guidance(scale, rows):
    seen = []

    def both(x, s):
        seen.append((x.shape[0], s.shape[0]))
        ends = torch.zeros(x.shape[0])
        ends[:2] = 3.0  # prompt rows; null rows are 0
        return ends[:, None, None, None, None].expand_as(x)

    velocity = guided_velocity(both, scale)(draw(0), torch.ones(2))
    assert seen == [(rows, rows)]
    assert velocity.shape == SHAPE and (velocity == 3.0 * scale).all()
