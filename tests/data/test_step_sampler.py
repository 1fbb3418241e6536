from __future__ import annotations

from itertools import chain, islice

import pytest

from pisa.data.loaders import StepSampler
from pisa.errors import PisaError


def take(sampler: StepSampler, count: int) -> list[list[int]]:
    return list(islice(iter(sampler), count))


def test_same_seed_same_batches_other_seed_others() -> None:
    assert take(StepSampler(50, 4, 1), 30) == take(StepSampler(50, 4, 1), 30)
    assert take(StepSampler(50, 4, 1), 30) != take(StepSampler(50, 4, 2), 30)


@pytest.mark.parametrize("start", [1, 12, 13, 40])
def test_resuming_continues_exactly(start: int) -> None:
    whole = take(StepSampler(50, 4, 1), 60)
    assert take(StepSampler(50, 4, 1, start_step=start), 60 - start) == whole[start:]


def test_batch_is_a_pure_function_of_the_step() -> None:
    sampler = StepSampler(50, 4, 1)
    whole = take(StepSampler(50, 4, 1), 40)
    assert [sampler.batch(k) for k in (39, 0, 20, 0)] == [whole[k] for k in (39, 0, 20, 0)]


def test_start_may_be_asked_at_each_iteration() -> None:
    done = [0]
    sampler = StepSampler(50, 4, 1, lambda: done[0])
    first = take(sampler, 5)
    done[0] = 5
    assert first + take(sampler, 5) == take(StepSampler(50, 4, 1), 10)


@pytest.mark.parametrize(("num_items", "batch_size"), [(12, 4), (10, 4), (3, 8)])
def test_every_epoch_is_a_permutation(num_items: int, batch_size: int) -> None:
    stream = list(chain(*take(StepSampler(num_items, batch_size, 0), 30)))
    epochs = [stream[i : i + num_items] for i in range(0, 60, num_items)]
    assert all(sorted(epoch) == list(range(num_items)) for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_global_batch_without_overlap(world_size: int) -> None:
    ranks = [
        take(StepSampler(24, 2, 5, rank=rank, world_size=world_size), 12)
        for rank in range(world_size)
    ]
    single = take(StepSampler(24, 2 * world_size, 5), 12)
    for step, whole in enumerate(single):
        assert list(chain(*(batches[step] for batches in ranks))) == whole
        assert len(set(whole)) == 2 * world_size
    epoch = list(chain(*single[: 24 // (2 * world_size)]))
    assert sorted(epoch) == list(range(24))


def test_wrong_arguments() -> None:
    with pytest.raises(PisaError):
        StepSampler(0, 4, 1)
    with pytest.raises(PisaError):
        StepSampler(4, 0, 1)
    with pytest.raises(ValueError):
        StepSampler(4, 1, 1, rank=2, world_size=2)
