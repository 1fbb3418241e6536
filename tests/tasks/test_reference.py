"""The penalty against drifting from the weights that ORO starts from."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError
from pisa.models.generate import generate
from pisa.models.lora import adapters_off, add_lora
from pisa.tasks.oro import ORO
from pisa.tasks.reference import RecordedChain, Reference
from tests.tasks.test_oro import Similarity, fit
from tests.tasks.toy import falling_batch, toy_model


def chain_of(model, guidance=1.0, steps=3, sampler=None):
    chain, batch = RecordedChain(sampler or Euler()), falling_batch(2)
    generate(
        model,
        batch.first_frame,
        batch.captions,
        num_frames=6,
        fps_hz=16.0,
        num_steps=steps,
        guidance=guidance,
        noise=torch.Generator().manual_seed(0),
        sampler=chain,
    )
    return chain


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_shifted_velocity_costs_the_square_of_the_shift(guidance):
    """Frame 0 is given and does not count; guidance leaves a shift of both prompts as it is."""
    model = toy_model()
    reference = Reference(model)
    assert torch.equal(reference.penalty(chain_of(model), 1), torch.zeros(2))
    trained = model.denoiser
    trained.leave.bias.data += 0.25
    for step in range(3):
        penalty = reference.penalty(chain_of(model, guidance), step)
        torch.testing.assert_close(penalty, torch.full((2,), 0.0625))
    assert model.denoiser is trained
    penalty.sum().backward()
    torch.testing.assert_close(trained.leave.bias.grad, torch.full((3,), 2 * 2 * 0.25 / 3))


def test_points_are_those_of_the_chain_and_carry_no_gradient():
    model = toy_model()
    chain = chain_of(model)
    assert len(chain.points) == 4 and not any(point.requires_grad for point in chain.points)
    level = chain.levels[1].expand(2)
    step = chain.points[1] + (chain.levels[2] - chain.levels[1]) * chain.velocity(
        chain.points[1], level
    )
    torch.testing.assert_close(chain.points[2][:, :, 1:], step[:, :, 1:])


def test_with_adapters_the_reference_is_the_model_without_them():
    from tests.distributed.job import tiny_opensora

    model = tiny_opensora()
    add_lora(model.denoiser, rank=2)
    names = {name for name, p in model.denoiser.named_parameters() if p.requires_grad}
    x = torch.randn(1, *model.latent_shape(5, 16, 16))
    clean = model.given_frames(x)
    prompt = model.encode_captions(["a ball"])

    def velocity():
        with torch.no_grad():
            return model.velocity(x, torch.tensor([0.5]), prompt, clean, fps_hz=16.0)

    torch.nn.init.normal_(model.denoiser.final_layer.linear.weight, std=0.1)
    base = velocity()
    for name, parameter in model.denoiser.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert not torch.allclose(velocity(), base)
    with adapters_off(model.denoiser):
        torch.testing.assert_close(velocity(), base)
    assert not torch.allclose(velocity(), base)
    assert names == {name for name, p in model.denoiser.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("replay", [False, True])
def test_a_weight_holds_training_near_its_start(tmp_path, replay):
    drift = []
    for weight in (0.0, 100.0):
        model = toy_model()
        start = model.denoiser.leave.weight.detach().clone()
        task = ORO(
            model, Similarity(), lr=1e-3, num_steps=2, replay=replay, reference_weight=weight
        )
        logged = fit(tmp_path, task, 12).logged_metrics
        assert ("train/reference" in logged) == (weight > 0)
        assert {key.split(".")[0] for key in task.state_dict()} == {"denoiser"}
        drift.append((model.denoiser.leave.weight.detach() - start).norm().item())
    assert 0 < drift[1] < 0.7 * drift[0]


def test_negative_weights_are_refused():
    with pytest.raises(PisaError, match="reference_weight"):
        ORO(toy_model(), Similarity(), reference_weight=-1.0)
