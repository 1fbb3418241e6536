"""A stage's batch is dealt out to processes and micro-batches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pisa.launch.stages import clips_per_rank
from pisa.types import PisaError


@pytest.mark.parametrize(
    ("ranks", "accumulate", "expected"), [(1, 1, 128), (2, 1, 64), (2, 4, 16), (8, 16, 1)]
)
def test_the_batch_counts_the_clips_of_one_optimiser_step(ranks, accumulate, expected):
    trainer = SimpleNamespace(world_size=ranks, accumulate_grad_batches=accumulate)
    assert clips_per_rank(128, trainer) == expected


def test_a_batch_that_cannot_be_dealt_out_is_one_sentence():
    trainer = SimpleNamespace(world_size=3, accumulate_grad_batches=2)
    with pytest.raises(PisaError, match=r"128 clips .* 3 processes .* choose a multiple of 6"):
        clips_per_rank(128, trainer)
