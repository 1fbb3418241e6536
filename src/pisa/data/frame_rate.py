"""Frame rate of a video from the times of its frames; uneven times are made even.

Containers round times (GIF to 1/100 s, WebM to 1/1000 s), and the metrics take the floor of
``i * gt_fps / gen_fps``: a rate that comes out 0.1 % too high would shift every frame by one. So
the benchmark's own rate wins wherever the file cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

NTSC = 0.0011  # 24000/1001 and the like count as the whole number they stand for


def frame_rate_hz(
    times_s: Sequence[Fraction], tick_s: Fraction, expected_hz: float | None = None
) -> float | None:
    """Mean rate of frames shown at ``times_s``, a clock of ``tick_s``; None for less than two.

    ``expected_hz`` (the benchmark's rate) is returned where it lies within what the clock can
    resolve; equal delays may each have been rounded. Otherwise rates within 0.11 % of a whole
    number are that number. Raises ``ValueError`` for times that do not increase.
    """
    if len(times_s) < 2:
        return None
    delays_s = [later - earlier for earlier, later in pairwise(times_s)]
    if min(delays_s) <= 0:
        raise ValueError("the times of the frames do not increase")
    measured = float(len(delays_s) / sum(delays_s))
    slack = max(NTSC, float(tick_s / sum(delays_s))) * measured
    each = float(tick_s / 2 / delays_s[0]) * measured if len(set(delays_s)) == 1 else 0.0
    if expected_hz is not None and abs(measured - expected_hz) <= max(slack, each):
        return float(expected_hz)
    whole = round(measured)
    near = whole and abs(measured - whole) <= NTSC * measured
    return float(whole) if near else measured


def even_indices(times_s: Sequence[Fraction], rate_hz: float) -> list[int]:
    """Which frame a display shows at ``i / rate_hz`` after the first one, one index per frame.

    That is ``0 ... T-1`` for frames within half a period of their even place; otherwise (a video
    of variable rate) frames repeat or drop out so that each stands at its true time.
    """
    since = [float(t - times_s[0]) for t in times_s]
    if all(abs(t - i / rate_hz) <= 0.5 / rate_hz for i, t in enumerate(since)):
        return list(range(len(since)))
    shown, current = [], 0
    for i in range(len(since)):
        while current + 1 < len(since) and since[current + 1] <= i / rate_hz + 1e-9:
            current += 1
        shown.append(current)
    return shown
