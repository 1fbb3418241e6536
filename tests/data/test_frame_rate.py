"""Rates from rounded times: the benchmark's own wins where the clock cannot tell."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pisa.data.video_files import even_indices, frame_rate_hz


def rounded_times(rate_hz: float, count: int, tick_s: Fraction) -> list[Fraction]:
    return [round(Fraction(i) / Fraction(rate_hz) / tick_s) * tick_s for i in range(count)]


@settings(deadline=None)
@given(
    rate_hz=st.sampled_from([8, 10, 12, 16, 24, 25, 30]),
    count=st.integers(3, 60),
    tick_s=st.sampled_from([Fraction(1, 100), Fraction(1, 1000), Fraction(1, 12800)]),
)
def test_rounding_never_hides_the_expected_rate(rate_hz: int, count: int, tick_s: Fraction):
    times_s = rounded_times(rate_hz, count, tick_s)
    assert frame_rate_hz(times_s, tick_s, expected_hz=rate_hz) == rate_hz
    assert even_indices(times_s, rate_hz) == list(range(count))


def test_equal_delays_may_each_have_been_rounded() -> None:
    tick_s = Fraction(1, 100)
    times_s = [i * 6 * tick_s for i in range(32)]  # a GIF writer's 62.5 ms
    assert frame_rate_hz(times_s, tick_s, expected_hz=16) == 16
    assert frame_rate_hz(times_s, tick_s, expected_hz=12) == pytest.approx(100 / 6)


def test_another_rate_is_not_the_expected_one() -> None:
    tick_s = Fraction(1, 12800)
    times_s = rounded_times(15, 30, tick_s)
    assert frame_rate_hz(times_s, tick_s, expected_hz=16) == 15


def test_one_frame_has_no_rate_and_time_must_increase() -> None:
    assert frame_rate_hz([Fraction(0)], Fraction(1, 100)) is None
    with pytest.raises(ValueError, match="increase"):
        frame_rate_hz([Fraction(0), Fraction(1), Fraction(1)], Fraction(1, 100))


@settings(deadline=None)
@given(delays=st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_even_times_show_what_a_display_shows(delays: list[int]) -> None:
    times_s = [Fraction(t, 100) for t in accumulate([0, *delays])]
    rate_hz = frame_rate_hz(times_s, Fraction(1, 100))
    assert rate_hz is not None
    index = even_indices(times_s, rate_hz)
    assert len(index) == len(times_s) and index == sorted(index) and index[0] == 0
    if index != list(range(len(times_s))):
        for i, shown in enumerate(index):
            now = i / rate_hz + 1e-9
            assert times_s[shown] <= now
            assert shown + 1 == len(times_s) or times_s[shown + 1] > now
