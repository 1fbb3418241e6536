"""Many clip pairs over processes; masks are read where they are scored, so none is sent around."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pisa.metrics.pair import evaluate_pair, parse_protocol
from pisa.ops.masks import AnnotatedPoints, Masks
from pisa.types import PisaError

Source = TypeVar("Source")


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
) -> Iterator[dict[str, Any] | PisaError]:
    """``evaluate_pair`` of ``load(source)`` for every source, in order, as they are finished.

    A pair that can't be loaded or scored comes as its error, so that no other is lost. With more
    than one worker ``load`` and the sources must be picklable.
    """
    score = partial(_score, load, parse_protocol(protocol).value)
    if num_workers == 1:
        yield from map(score, sources)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context) as pool:
        yield from pool.map(score, sources, chunksize=4)


def _score(
    load: Callable[[Source], PairMasks], protocol: str, source: Source
) -> dict[str, Any] | PisaError:
    try:
        pair = load(source)
        return evaluate_pair(
            pair.gt_masks,
            pair.gen_masks,
            pair.gt_fps_hz,
            pair.gen_fps_hz,
            protocol=protocol,
            points=pair.points,
        )
    except PisaError as error:
        return error
