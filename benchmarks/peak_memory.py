"""Peak of what torch's CPU allocator holds during a call, from the profiler's record of it."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """Highest number of bytes allocated at once by ``run``, on top of what was there before.

    It counts every allocation and release of the CPU allocator, temporaries inside operators
    included, in every thread; scratch space of the BLAS library is not torch's and not counted.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kept = run()
    del kept
    events = record.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
