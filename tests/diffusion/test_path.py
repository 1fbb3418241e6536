from __future__ import annotations

import pytest
import torch

from pisa.diffusion.path import (
    align_noise_level,
    blend_clean,
    interpolate,
    velocity_loss,
    velocity_target,
)

SHAPE = (2, 3, 4, 5, 6)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(SHAPE, generator=generator)
    return x0, torch.randn(SHAPE, generator=generator)


def test_ends_of_the_path():
    x0, noise = pair()
    assert torch.equal(interpolate(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(interpolate(x0, noise, torch.ones(2)), noise)


def test_velocity_is_the_slope_of_the_path():
    x0, noise = pair()
    s = torch.tensor([0.25, 0.5])
    rise = interpolate(x0, noise, s + 0.25) - interpolate(x0, noise, s)
    torch.testing.assert_close(rise / 0.25, velocity_target(x0, noise))


def test_one_level_per_frame():
    x0, noise = pair()
    s = torch.rand(2, 4, generator=torch.Generator().manual_seed(1))
    s[:, 0] = 0
    x = interpolate(x0, noise, s)
    assert torch.equal(x[:, :, 0], x0[:, :, 0])
    expected = (1 - s[1, 2]) * x0[1, :, 2] + s[1, 2] * noise[1, :, 2]
    torch.testing.assert_close(x[1, :, 2], expected)


def test_refuses_levels_that_fit_nothing():
    with pytest.raises(ValueError, match="neither"):
        align_noise_level(torch.rand(2, 3), pair()[0])


def test_loss_skips_clean_frames():
    x0, noise = pair()
    target = velocity_target(x0, noise)
    clean = torch.tensor([[True, False, False, False], [True, True, False, False]])
    wrong = target.clone()
    wrong[:, :, 0] += 100
    wrong[1, :, 3] += 2
    torch.testing.assert_close(velocity_loss(wrong, target, clean), torch.tensor([0.0, 2.0]))
    assert velocity_loss(wrong, target).min() > 100


def test_loss_refuses_all_clean():
    x0, noise = pair()
    with pytest.raises(ValueError, match="empty"):
        velocity_loss(x0, noise, torch.ones(2, 4, dtype=torch.bool))


def test_blend_takes_one_clean_frame_for_all_named():
    x0, noise = pair()
    clean_frames = torch.tensor([[True, False, False, False]] * 2)
    blended = blend_clean(noise, x0[:, :, :1], clean_frames)
    assert torch.equal(blended[:, :, 0], x0[:, :, 0])
    assert torch.equal(blended[:, :, 1:], noise[:, :, 1:])
