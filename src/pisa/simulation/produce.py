"""Data sets in parallel: every clip is a function of its seed, so a set can resume anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pisa.errors import PisaError
from pisa.simulation.pool import Outcome, Transient, supervise
from pisa.types import Clip

WriteClip = Callable[..., None]  # (folder, clip, *, extra)


@runtime_checkable
class Simulator(Protocol):
    """A backend; a dataclass, whose fields name the data set (`digest_fields`)."""

    @property
    def min_clips_for_workers(self) -> int:
        """Below so many clips, starting worker processes takes longer than making them here."""

    def make_clip(self, seed: int, split: str, name: str) -> tuple[Clip, dict[str, Any]]:
        """The clip of a seed, and what else ``clip_info.json`` is to say."""

    def check(self) -> None:
        """Raises ``PisaError`` where clips cannot be made on this machine."""

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that the clips' bytes depend on."""

    def licences(self) -> dict[str, str]:
        """Licences of the assets that the clips show."""


class ClipsFailed(PisaError):
    """Some clips could not be made; ``reasons`` maps their names to one line each."""

    def __init__(self, reasons: dict[str, str], attempts: int) -> None:
        self.reasons = reasons
        some = "; ".join(f"{name}: {text}" for name, text in list(reasons.items())[:3])
        super().__init__(
            f"{len(reasons)} clips failed {attempts} times ({some}); "
            "run the same command to try them again"
        )


@dataclass(frozen=True)
class DataSetSpec:
    """One data set; clip ``i`` has seed ``first_seed + i``."""

    simulator: Simulator
    split: str  # "train" or "test": which objects, materials and backgrounds
    num_clips: int
    first_seed: int

    def clip_name(self, index: int) -> str:
        return f"{index:06d}"

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any number of the spec."""
        text = json.dumps(digest_fields(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th clip, from ``index`` on: one machine's part of a data set."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """``"2/8"`` is the third of eight; None is everything."""
        if text is None:
            return cls()
        index, slash, count = str(text).partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise PisaError(f"shard must be i/n with i from 0 to n - 1, not {text!r}")
        return cls(int(index), int(count))

    def indices(self, num_clips: int) -> range:
        return range(self.index, num_clips, self.count)


def digest_fields(value: Any) -> Any:
    """The fields of nested dataclasses that name a data set.

    A field with the metadata ``digest`` False is left out; with ``"where changed"`` it is left out
    at its default, so that fields that came later don't rename the data sets made before.
    """
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {
        f.name: digest_fields(getattr(value, f.name))
        for f in fields(value)
        if (rule := f.metadata.get("digest")) is not False
        and not (rule == "where changed" and getattr(value, f.name) == f.default)
    }


def produce(
    spec: DataSetSpec,
    clips_folder: Path,
    write: WriteClip,
    *,
    num_workers: int,
    shard: Shard = Shard(),
    timeout_s: float = 3600.0,
    attempts: int = 3,
) -> Iterator[str]:
    """Make the shard's clips that are not there yet; yields the name of each as it is finished.

    ``write(folder, clip, extra=...)`` must make a clip appear whole or not at all. Workers that
    crash or take longer than ``timeout_s`` for a clip are replaced and the clip is tried
    ``attempts`` times; at the end ``ClipsFailed`` lists those that never worked.
    """
    if num_workers < 1:
        raise PisaError("num_workers must be at least 1")
    wanted = shard.indices(spec.num_clips)
    missing = [i for i in wanted if not (clips_folder / spec.clip_name(i)).is_dir()]
    make = partial(_make, spec, clips_folder, write)
    if len(missing) < spec.simulator.min_clips_for_workers or num_workers == 1:
        outcomes = _here(make, missing, attempts)
    else:
        outcomes = supervise(
            make, missing, num_workers=num_workers, timeout_s=timeout_s, attempts=attempts
        )
    reasons: dict[str, str] = {}
    for outcome in outcomes:
        name = spec.clip_name(outcome.task)
        if outcome.error is None:
            yield name
        else:
            reasons[name] = outcome.error
    if reasons:
        raise ClipsFailed(reasons, attempts)


def _here(make: Callable[[int], None], tasks: list[int], attempts: int) -> Iterator[Outcome]:
    """In this process; an unexpected exception is a bug and is not caught."""
    for task in tasks:
        error: str | None = None
        for _ in range(attempts):
            try:
                make(task)
                error = None
                break
            except Transient as failure:
                error = str(failure)
        yield Outcome(task, error)


def _make(spec: DataSetSpec, folder: Path, write: WriteClip, index: int) -> None:
    name = spec.clip_name(index)
    try:
        clip, extra = spec.simulator.make_clip(spec.first_seed + index, spec.split, name)
    except Transient:
        raise
    except PisaError as error:
        raise PisaError(f"clip {name} (seed {spec.first_seed + index}): {error}") from error
    write(folder / name, clip, extra=extra)
