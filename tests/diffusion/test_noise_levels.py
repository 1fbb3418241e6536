from __future__ import annotations

import math

import pytest
import torch

from pisa.diffusion.noise_levels import (
    inference_noise_levels,
    logit_normal_noise_level,
    shift_noise_level,
    uniform_noise_level,
)


def test_shift_keeps_the_ends_and_inverts():
    s = torch.linspace(0, 1, 11)
    shifted = shift_noise_level(s, 3.0)
    assert shifted[0] == 0 and shifted[-1] == 1
    assert (shifted.diff() > 0).all() and (shifted[1:-1] > s[1:-1]).all()
    torch.testing.assert_close(shift_noise_level(shifted, 1 / 3.0), s)


@pytest.mark.parametrize("shift", [0.3, 1.0, 1.118, 3.0])
def test_levels_descend_from_one_to_zero(shift):
    levels = inference_noise_levels(7, shift)
    assert levels.shape == (8,) and levels.dtype == torch.float32
    assert levels[0] == 1 and levels[-1] == 0 and (levels.diff() < 0).all()


def test_levels_are_those_of_the_diffusers_scheduler():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.118)
    scheduler.set_timesteps(sigmas=[1 - i / 10 for i in range(10)])
    torch.testing.assert_close(inference_noise_levels(10, 1.118), scheduler.sigmas)


@pytest.mark.parametrize(("num_steps", "shift"), [(0, 1.0), (4, 0.0), (4, float("nan"))])
def test_refuses_senseless_levels(num_steps, shift):
    with pytest.raises(ValueError, match="num_steps"):
        inference_noise_levels(num_steps, shift)


@pytest.mark.parametrize("draw", [uniform_noise_level, logit_normal_noise_level])
def test_training_draws_repeat_and_stay_inside(draw):
    first = draw(4000, torch.Generator().manual_seed(3))
    assert torch.equal(first, draw(4000, torch.Generator().manual_seed(3)))
    assert first.min() >= 0 and first.max() <= 1
    assert abs(float(first.mean()) - 0.5) < 0.02


def test_logit_normal_is_normal_in_logits():
    drawn = logit_normal_noise_level(20000, torch.Generator().manual_seed(0), mean=0.5, std=2.0)
    logits = torch.logit(drawn.double())
    assert math.isclose(float(logits.mean()), 0.5, abs_tol=0.05)
    assert math.isclose(float(logits.std()), 2.0, rel_tol=0.03)
