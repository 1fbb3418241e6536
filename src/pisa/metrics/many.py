"""Many clip pairs over processes; masks are read where they are scored, so none is sent around."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pisa.errors import PisaError
from pisa.metrics.pair import evaluate_pair, find_protocol
from pisa.ops.masks import AnnotatedPoints, Masks

Source = TypeVar("Source")
# A fork of the caller's process could wait for ever for a lock that one of its threads held.
_START_METHOD = "spawn" if sys.platform == "win32" else "forkserver"


@dataclass(frozen=True)
class PairMasks:
    """The arguments of ``evaluate_pair``."""

    gt_masks: Masks
    gen_masks: Masks
    gt_fps_hz: float
    gen_fps_hz: float
    points: AnnotatedPoints | None = None


def evaluate_many(
    load: Callable[[Source], PairMasks],
    sources: Sequence[Source],
    *,
    protocol: str = "official",
    num_workers: int = 1,
    finish: Callable[[Source, PairMasks, dict[str, Any]], Any] | None = None,
) -> Iterator[Any]:
    """``evaluate_pair`` of ``load(source)`` for every source, in order, as they are finished.

    ``finish(source, masks, result)``, called where the pair was scored, replaces its result. A pair
    that can't be loaded or scored comes as its ``PisaError``, so that no other is lost. With more
    than one worker the functions and the sources must be picklable. The processes start with this
    call and import the caller's main module, so keep it behind ``if __name__ == "__main__"``; a
    ``PisaError`` is raised if one of them is killed.
    """
    score = partial(_score, load, finish, find_protocol(protocol).name)
    if num_workers == 1:
        return map(score, sources)
    context = multiprocessing.get_context(_START_METHOD)
    context.set_forkserver_preload([__name__])  # imported once, not by every process
    pool = ProcessPoolExecutor(num_workers, context)
    return _drain(pool, pool.map(score, sources, chunksize=4))


def _drain(pool: ProcessPoolExecutor, results: Iterator[Any]) -> Iterator[Any]:
    try:
        with pool:
            yield from results
    except BrokenProcessPool as error:
        raise PisaError("a process that scores masks was killed; is memory short?") from error


def _score(
    load: Callable[[Source], PairMasks],
    finish: Callable[[Source, PairMasks, dict[str, Any]], Any] | None,
    protocol: str,
    source: Source,
) -> Any:
    try:
        pair = load(source)
        result = evaluate_pair(
            pair.gt_masks,
            pair.gen_masks,
            pair.gt_fps_hz,
            pair.gen_fps_hz,
            protocol=protocol,
            points=pair.points,
        )
        return finish(source, pair, result) if finish else result
    except PisaError as error:
        return error
