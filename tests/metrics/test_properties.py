"""What must hold for any masks: frames, scale, mirror images, order, bounds."""

from __future__ import annotations

import math
import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pisa.errors import PisaError
from pisa.metrics import evaluate_pair
from pisa.metrics.chamfer import chamfer_px
from pisa.metrics.many import PairMasks, evaluate_many
from pisa.metrics.pair import PROTOCOLS
from pisa.ops.masks import iou

METRICS = ("l2", "chamfer", "iou")
ANY = hnp.arrays(bool, (4, 9, 9))
SEEN = ANY.filter(lambda m: m.any(axis=(1, 2)).all())
PER_PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS)


def _scores(gt: np.ndarray, gen: np.ndarray, protocol: str) -> list[float]:
    result = evaluate_pair(gt, gen, 16, 16, protocol=protocol)
    return [result[name] for name in METRICS]


@PER_PROTOCOL
@settings(max_examples=15, deadline=None)
@given(gt=SEEN, gen=ANY)
def test_a_clip_is_the_mean_of_its_frames(protocol: str, gt: np.ndarray, gen: np.ndarray) -> None:
    alone = [_scores(gt[t : t + 1], gen[t : t + 1], protocol) for t in range(len(gt))]
    result = evaluate_pair(gt, gen, 16, 16, protocol=protocol)
    for name, values in zip(METRICS, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(result["per_frame"][name], values)
        defined = [value for value in values if not math.isnan(value)]
        expected = np.mean(defined) if defined else math.nan
        assert result[name] == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


@PER_PROTOCOL
@settings(max_examples=15, deadline=None)
@given(gt=SEEN, gen=ANY, order=st.permutations(range(4)))
def test_the_order_of_frame_pairs_does_not_matter(
    protocol: str, gt: np.ndarray, gen: np.ndarray, order: list[int]
) -> None:
    shuffled = _scores(gt[order], gen[order], protocol)
    assert shuffled == pytest.approx(_scores(gt, gen, protocol), rel=1e-12, abs=1e-15, nan_ok=True)


@PER_PROTOCOL
@settings(max_examples=15, deadline=None)
@given(gt=SEEN, gen=SEEN, factor=st.integers(2, 4))
def test_resolution(protocol: str, gt: np.ndarray, gen: np.ndarray, factor: int) -> None:
    """Pixels become blocks: IoU and l2 stay, Chamfer loses less than sqrt(2) px a direction.

    A block's pixel may be nearer to the other block by its own offset, never farther. ``strict``
    adds a block's own variance to both covariances, which brings unlike shapes a little nearer.
    """
    l2, chamfer, overlap = _scores(gt, gen, protocol)
    large = [m.repeat(factor, axis=1).repeat(factor, axis=2) for m in (gt, gen)]
    large_l2, large_chamfer, large_overlap = _scores(large[0], large[1], protocol)
    pixel = 1 / math.hypot(9, 9)
    assert large_overlap == overlap
    loss = 0.0 if protocol != "strict" else pixel
    assert l2 - loss - 1e-9 <= large_l2 <= l2 + 1e-9
    assert chamfer - 2 * math.sqrt(2) * pixel <= large_chamfer <= chamfer + 1e-9


@PER_PROTOCOL
@settings(max_examples=15, deadline=None)
@given(gt=SEEN, gen=ANY)
def test_mirror_images(protocol: str, gt: np.ndarray, gen: np.ndarray) -> None:
    expected = pytest.approx(_scores(gt, gen, protocol), rel=1e-9, abs=1e-7, nan_ok=True)
    for axes in ((1,), (2,), (1, 2)):
        assert _scores(np.flip(gt, axes), np.flip(gen, axes), protocol) == expected
    assert _scores(gt.swapaxes(1, 2), gen.swapaxes(1, 2), protocol) == expected


@PER_PROTOCOL
@settings(max_examples=25, deadline=None)
@given(gt=SEEN, gen=ANY)
def test_bounds(protocol: str, gt: np.ndarray, gen: np.ndarray) -> None:
    l2, chamfer, overlap = _scores(gt, gen, protocol)
    assert 0 <= overlap <= 1
    assert math.isnan(l2) or 0 <= l2 <= 1
    assert math.isnan(chamfer) or 0 <= chamfer <= 2


@settings(max_examples=40, deadline=None)
@given(first=SEEN, second=SEEN)
def test_only_equal_masks_are_perfect(first: np.ndarray, second: np.ndarray) -> None:
    for a, b in zip(first, second, strict=True):
        same = np.array_equal(a, b)
        assert (chamfer_px(a, b) == 0) == same
        assert (iou(a, b) == 1) == same


@PER_PROTOCOL
@settings(max_examples=10, deadline=None)
@given(pairs=st.lists(st.tuples(SEEN, ANY), min_size=1, max_size=4))
def test_many_pairs_are_scored_like_one_at_a_time(
    protocol: str, pairs: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    results = evaluate_many(lambda pair: PairMasks(*pair, 16, 16), pairs, protocol=protocol)
    for result, (gt, gen) in zip(results, pairs, strict=True):
        assert not isinstance(result, PisaError)
        np.testing.assert_array_equal(
            [result[name] for name in METRICS], _scores(gt, gen, protocol)
        )


def _squares(num_frames: int) -> PairMasks:
    """Three frames or fewer; a fourth has another size, which can't be scored."""
    gt = np.zeros((num_frames, 12, 12), dtype=bool)
    gt[:, 2:6, 3:7] = True
    return PairMasks(gt, np.roll(gt, 1, axis=2)[:, :, : 12 if num_frames < 4 else 11], 16, 16)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_pair_that_cannot_be_scored_keeps_its_place(num_workers: int) -> None:
    results = list(evaluate_many(_squares, [1, 4, 2, 3], num_workers=num_workers))
    assert isinstance(results[1], PisaError) and "12x12" in str(results[1])
    counts = [r["num_frames_compared"] for r in results if not isinstance(r, PisaError)]
    assert counts == [1, 2, 3]


def _kill(_: int) -> PairMasks:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.skipif(sys.platform != "linux", reason="the processes take seconds to start elsewhere")
def test_a_killed_process_is_an_error_in_one_line() -> None:
    with pytest.raises(PisaError, match="killed"):
        list(evaluate_many(_kill, [1, 2, 3], num_workers=2))
