"""Bilinear sampling: plain where positions are finite, NaN (and alive) where they are not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pisa.ops.warp import sample_bilinear, warp


def inputs():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 8, 8, generator=generator).requires_grad_()
    return image, torch.rand(2, 6, 5, 2, generator=generator) * 3 - 1.5


@pytest.mark.parametrize("align_corners", [False, True])
def test_finite_positions_are_those_of_torch(align_corners):
    image, grid = inputs()
    expected = F.grid_sample(image, grid, padding_mode="border", align_corners=align_corners)
    assert torch.equal(sample_bilinear(image, grid, align_corners=align_corners), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_position_that_is_not_finite_gives_nan_and_backward_survives(bad):
    image, grid = inputs()
    grid[1, 2, 3, 0] = bad
    grid.requires_grad_()
    found = sample_bilinear(image, grid, align_corners=False)
    assert found.isnan().sum() == 3 and found[1, :, 2, 3].isnan().all()
    found.sum().backward()
    assert grid.grad.isfinite().all() and image.grad.isfinite().all()


def test_warp_fetches_from_where_the_flow_points():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 5] = 1.0
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0], flow[:, 1] = 1.0, -3.0  # x, y: content of (5, 2) appears at (4, 5)
    moved = warp(image, flow)
    assert moved[0, 0, 5, 4] == pytest.approx(1.0, abs=1e-5)
    assert moved.sum() == pytest.approx(1.0, abs=1e-4)
