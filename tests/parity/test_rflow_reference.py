"""Rectified flow against the release: timesteps, noising, loss, gradients, sampling."""

from __future__ import annotations

import pytest
import torch

from pisa.diffusion.noise_levels import (
    inference_noise_levels,
    logit_normal_noise_level,
    shift_noise_level,
)
from pisa.diffusion.path import blend_clean, interpolate, velocity_loss, velocity_target
from tests.parity.official_sampler import official_timesteps, sample_rflow_official
from tests.parity.opensora_reference import description, more_tensors, relative_error, tiny_stdit3

SIZE_PX = torch.tensor([256.0])
FPS = torch.tensor([16.0])


def normal(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_timesteps_with_their_rounding(dtype):
    recorded = {k: v for k, v in description("rflow")["timesteps"].items() if f"_{dtype}_" in k}
    assert len(recorded) == 32
    for name, expected in recorded.items():
        size, frames, _, steps = name.split("_")
        numbers = [float(frames[1:]), *map(float, size.split("x"))]
        sizes = [torch.tensor([n]).to(getattr(torch, dtype)) for n in numbers]
        actual = torch.cat(official_timesteps(int(steps[1:]), *sizes))
        target = torch.tensor(expected["t"])
        torch.testing.assert_close(actual, target, rtol=1e-6, atol=0, equal_nan=True)
        assert bool(actual[0] > 1000) == expected["first_gt_1000"], name


def test_our_levels_are_the_release_s_timesteps():
    recorded = description("rflow")["timesteps"]["256x256_f32_float32_s30"]["t"]
    levels = inference_noise_levels(30, shift=1.25**0.5)  # r = 0.5 sqrt(5)
    torch.testing.assert_close(levels[:-1] * 1000, torch.tensor(recorded), rtol=1e-5, atol=1e-3)


def test_training_noise_levels():
    recorded = more_tensors("rflow_io")
    drawn = logit_normal_noise_level(8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn * 1000, recorded["train_t.raw_seed0"])
    shifted = shift_noise_level(drawn, 1.25**0.5) * 1000
    torch.testing.assert_close(shifted, recorded["train_t.transformed_seed0"])


@pytest.mark.parametrize("case", ["nomask", "imagehead"])
def test_training_loss_and_gradients(case):
    recorded = more_tensors("rflow_io")
    x0, noise, t = (recorded[f"add_noise.{key}"] for key in ("x", "noise", "t"))
    x = interpolate(x0, noise, t / 1000)
    torch.testing.assert_close(x, recorded["add_noise.out"])
    clean_frames = ~recorded["train.mask"] if case == "imagehead" else None
    if clean_frames is not None:
        x = blend_clean(x, x0, clean_frames)
    model = tiny_stdit3()
    output = model(
        x,
        t,
        recorded["train.y"],
        mask=recorded["train.textmask"],
        x_mask=None if clean_frames is None else ~clean_frames,
        fps=FPS,
        height=SIZE_PX,
        width=SIZE_PX,
    )
    loss = velocity_loss(-output[:, :4], velocity_target(x0, noise), clean_frames)
    torch.testing.assert_close(loss, recorded[f"train.{case}.loss"], rtol=1e-5, atol=1e-6)
    if clean_frames is not None:
        check_gradients(model, loss.mean())


def check_gradients(model: torch.nn.Module, loss: torch.Tensor) -> None:
    recorded = more_tensors("rf_train_grads")
    torch.testing.assert_close(loss, recorded["loss_mean"], rtol=1e-5, atol=1e-6)
    loss.backward()
    names = [k.removeprefix("grad.") for k in recorded if k.startswith("grad.")]
    assert len(names) == 87
    for name in names:
        error = relative_error(model.get_parameter(name).grad, recorded[f"grad.{name}"])
        assert error < 1e-3, name


@torch.no_grad()
@pytest.mark.parametrize("guidance", [4, 7])
def test_sampling_trajectory(guidance):
    recorded = more_tensors("rflow_io")
    case = {
        k.split(".")[2]: v for k, v in recorded.items() if k.startswith(f"sample.img_cfg{guidance}")
    }
    velocities = iter(zip(case["v_cond"], case["v_uncond"], strict=True))
    noises = iter(case["noises"])
    seen_masks, seen = [], [case["z_after_refs"]]

    def predict(z, t, x_mask):
        seen_masks.append(x_mask)
        return torch.cat(next(velocities))

    final = sample_rflow_official(
        predict,
        case["z_after_refs"],
        list(case["t_steps"]),
        float(guidance),
        case["masks"],
        draw_noise=lambda z: next(noises),
        on_step=lambda step, z: seen.append(z),
    )
    torch.testing.assert_close(torch.stack(seen_masks), case["x_mask_steps"])
    torch.testing.assert_close(torch.stack(seen[:-1]), case["z_steps"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(final, case["z_final"], atol=1e-4, rtol=1e-3)
    assert next(noises, None) is None  # one draw per step, used or not


def test_official_sampler_freezes_a_first_step_above_1000():
    """In float32 small clips start at 1000.0001: the step is lost and noise drawn again."""
    timesteps = [torch.full((2,), t) for t in (1000.0001, 500.0)]
    mask = torch.tensor([[0.0, 1.0, 1.0, 1.0]] * 2)
    fresh, after = normal(7), []
    start = normal(1)
    sample_rflow_official(
        lambda z, t, x_mask: torch.zeros_like(z),
        start,
        timesteps,
        4.0,
        mask,
        draw_noise=lambda z: fresh,
        on_step=lambda step, z: after.append(z),
    )
    assert torch.equal(after[0], start)
    torch.testing.assert_close(after[1][:, :, 1:], (0.5 * start + 0.5 * fresh)[:, :, 1:])
    assert torch.equal(after[1][:, :, 0], start[:, :, 0])
