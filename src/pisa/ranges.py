"""Ranges of settings, declared beside the fields: ``lr: Positive``, ``num_steps: Count``.

An annotation says which values a setting takes; ``problem`` says in words why a value is not one of
them. The launcher checks every setting of a composed configuration this way before any work,
against the dataclasses of ``pisa.launch.settings`` and the constructors that the configuration
names.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included; ``above`` and ``below`` exclude theirs."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = [
            f"{word} {bound:g}"
            for word, bound in (
                ("of at least", self.low),
                ("above", self.above),
                ("of at most" if self.low is None and self.above is None else "at most", self.high),
                ("below", self.below),
            )
            if bound is not None
        ]
        return " and ".join(parts)


@dataclass(frozen=True)
class Length:
    """Number of items of a list."""

    low: int = 0

    def holds(self, value: Sequence[Any]) -> bool:
        return len(value) >= self.low

    def __str__(self) -> str:
        return f"of at least {self.low}"


@dataclass(frozen=True)
class Ordered:
    """A pair whose first number is not above its second."""

    def holds(self, value: Sequence[Any]) -> bool:
        return bool(value[0] <= value[1])


Count = Annotated[int, Range(1)]
WholeNumber = Annotated[int, Range(0)]  # from zero
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy takes
FrameCount = Annotated[int, Range(2)]  # a video; one frame has no motion
PixelCount = Annotated[int, Range(8)]  # the side of a picture
PixelSize = tuple[PixelCount, PixelCount]  # height, width
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Interval = Annotated[tuple[NonNegative, NonNegative], Ordered()]
PositiveInterval = Annotated[tuple[Positive, Positive], Ordered()]
FractionInterval = Annotated[tuple[Fraction, Fraction], Ordered()]
CountInterval = Annotated[tuple[Count, Count], Ordered()]
WholeInterval = Annotated[tuple[WholeNumber, WholeNumber], Ordered()]

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    type(None): "null",
}


def problem(value: Any, kind: Any) -> str | None:
    """``must be ..., not ...`` for a value outside the annotation ``kind``; None where it fits.

    NaN and infinity are no numbers here. Annotations of anything but numbers, texts, lists and
    mappings of them (a class, a callable) accept every value.
    """
    if _fits(value, kind):
        return None
    shown = repr(value) if isinstance(value, str) else _yaml(value)
    return f"must be {described(kind)}, not {shown}"


def described(kind: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated and isinstance(inner[1], Ordered):
        return f"[low, high], each {described(get_args(inner[0])[0])}"
    if origin is Annotated:
        return " ".join([described(inner[0]), *map(str, inner[1:])])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in inner))
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} items, each {described(inner[0])}"
    if origin is not None and origin is not Any and issubclass(origin, Sequence):
        return f"a list of items, each {described(inner[0])}" if inner else "a list"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping {name: value}"
    return _WORDS.get(kind, "a mapping with _target_")


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(value, inner[0]) and all(mark.holds(value) for mark in inner[1:])
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if kind in (bool, type(None)):
        return isinstance(value, kind)
    if kind in (str, Path):
        return isinstance(value, str | Path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(v, inner[1]) for v in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _fits_list(value, inner)
    if isinstance(kind, type) and kind not in (object, Any):  # built from a mapping
        return not isinstance(value, int | float | str | list | tuple) or isinstance(value, kind)
    return True


def _fits_list(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if Ellipsis in inner or len(inner) == 1:
        return all(_fits(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(map(_fits, value, inner))


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    return str(list(value)) if isinstance(value, tuple) else str(value)
