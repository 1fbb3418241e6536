"""ORO draws for the global batch: two gloo processes have the gradients of one.

In float64, where they agree to 1e-12. In float32 they differ by rounding alone: kernels add up a
batch of two in another order than one of four, and two denoising steps, a decoder and the first
update of the weights enlarge that.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.distributed.oro_job import STEPS, VARIANTS, in_float64, run, start
from tests.processes import run_ranks


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    run_ranks(start, folder)
    return folder


def assert_same(found, expected) -> None:
    assert len(found) == len(expected) == STEPS
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        assert max(gradient.abs().max() for gradient in theirs.values()) > 0.01
        for name, gradient in theirs.items():
            assert gradient.dtype == torch.float64
            torch.testing.assert_close(mine[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_have_the_gradients_of_one(together, tmp_path, variant):
    """With sampled first-frame latents, the regulariser, random windows, and replay."""
    found = torch.load(together / f"{variant}.pt", weights_only=True)
    with in_float64():
        assert_same(found, run(tmp_path, variant))


@pytest.mark.parametrize("variant", ["full", "replay_frozen"])
def test_accumulated_micro_batches_have_the_gradients_of_one_batch(tmp_path, variant):
    with in_float64():
        assert_same(run(tmp_path, variant, accumulate=2), run(tmp_path, variant))
