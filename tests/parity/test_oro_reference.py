"""Gradients through whole sampling chains against the release (its ORO loop)."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.path import CleanFrames
from pisa.diffusion.samplers import Euler, guided_velocity
from pisa.models.opensora import STDiT3
from tests.parity.official_sampler import official_timesteps, sample_rflow_official
from tests.parity.opensora_reference import (
    description,
    more_tensors,
    relative_error,
    tensors,
    tiny_stdit3,
)

SIZE_PX = torch.tensor([256.0])
FPS = torch.tensor([16.0])
SHIFT = 1.25**0.5  # 32 frames at 256 x 256


def denoise(model: STDiT3, x, t, x_mask):
    """Prompt rows, then null rows: ``x_0 - noise``."""
    recorded = tensors("oro_io")
    null = model.y_embedder.y_embedding[None, None]
    return model(
        x,
        t,
        torch.cat([recorded["y"], null]),
        mask=recorded["textmask"],
        x_mask=x_mask,
        fps=FPS,
        height=SIZE_PX,
        width=SIZE_PX,
    )[:, :4]


def official_chain(model: STDiT3, num_steps: int) -> torch.Tensor:
    recorded = tensors("oro_io")
    start = recorded["z_noise"].clone()
    start[:, :, :1] = recorded["ref"]
    mask = torch.ones(1, 9)
    mask[:, 0] = 0
    timesteps = official_timesteps(num_steps, torch.tensor([32.0]), SIZE_PX, SIZE_PX)
    return sample_rflow_official(
        lambda z, t, x_mask: denoise(model, z, t, x_mask), start, timesteps, 4.0, mask
    )


def our_chain(model: STDiT3, num_steps: int, checkpoint_steps: bool) -> torch.Tensor:
    recorded = tensors("oro_io")
    clean_frames = torch.zeros(1, 9, dtype=torch.bool)
    clean_frames[:, 0] = True
    x_mask = ~clean_frames.repeat(2, 1)
    return Euler(checkpoint=checkpoint_steps).sample(
        guided_velocity(lambda x, s: -denoise(model, x, s * 1000, x_mask), 4.0),
        recorded["z_noise"],
        inference_noise_levels(num_steps, SHIFT),
        clean=CleanFrames(recorded["ref"][None], clean_frames),
    )


def backward(model: STDiT3, final: torch.Tensor) -> tuple[float, float]:
    """Loss and the norm of the gradient over all parameters."""
    loss = (final - tensors("oro_io")["target_latent"]).abs().mean()
    loss.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    assert len(grads) == 87
    return loss.item(), torch.cat(grads).norm().item()


@pytest.mark.parametrize(
    ("name", "steps"), [("identity_L1", 4), ("identity_L1_10steps", 10)], ids=["4", "10"]
)
def test_official_chain(name, steps):
    expected = description("oro")[name]
    model = tiny_stdit3()
    loss, norm = backward(model, official_chain(model, steps))
    assert loss == pytest.approx(expected["loss"], rel=1e-5)
    assert norm == pytest.approx(expected["grad_global_norm"], rel=1e-3)


@pytest.mark.parametrize("checkpoint_steps", [False, True], ids=["kept", "recomputed"])
def test_our_sampler_gives_the_release_s_gradient(checkpoint_steps):
    expected = description("oro")["identity_L1"]
    model = tiny_stdit3()
    final = our_chain(model, 4, checkpoint_steps)
    torch.testing.assert_close(
        final, tensors("oro_io")["identity_L1.z_final"], atol=1e-4, rtol=1e-3
    )
    loss, norm = backward(model, final)
    assert loss == pytest.approx(expected["loss"], rel=1e-5)
    assert norm == pytest.approx(expected["grad_global_norm"], rel=1e-3)


@pytest.mark.parametrize("chain", ["official", "ours"])
def test_every_parameter_gradient(chain):
    recorded = more_tensors("oro_grads_identity_L1")
    model = tiny_stdit3()
    final = official_chain(model, 4) if chain == "official" else our_chain(model, 4, True)
    backward(model, final)
    assert len(recorded) == 87
    for name, expected in recorded.items():
        assert relative_error(model.get_parameter(name).grad, expected) < 1e-3, name
