"""List and remove data sets and runs.

  pisa clean                                     lists them with size and age, removes nothing
  pisa clean 'psft-*' oro_flow-1a2b3c4d          asks, then removes these
  pisa clean --older-than 30 --yes               removes all that are older than 30 days

Only folders directly in --data-dir and --output-dir are ever removed, and only those that this
project has written. A folder that a running command holds is kept.
"""

from __future__ import annotations

import argparse
import fnmatch
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pisa.errors import PisaError
from pisa.io.files import hold

DAY_S = 86400.0
# A folder is one of ours when it holds one of these.
_DATA = ("manifest.json", "clips", ".lock")
_RUN = ("config.yaml", "weights.safetensors", "metrics.json", "checkpoints", "csv")
_CACHES = ("mask_cache", "latents", "captions")  # of the data folder; made again on use


@dataclass(frozen=True)
class Entry:
    """A folder that may be removed."""

    kind: str  # data set | cache | run
    path: Path
    size_bytes: int
    age_days: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="names or patterns of what is removed")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--output-dir", type=Path, default=Path("runs"))
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="only what is older")
    parser.add_argument("--yes", action="store_true", help="remove without asking")


def main(given: argparse.Namespace) -> int:
    """List, or ask and remove; 2 where a folder is in use."""
    found = sorted(entries(given.data_dir, given.output_dir), key=lambda e: (e.kind, e.path.name))
    chosen = choose(found, given.names, given.older_than)
    _show(chosen)
    if not given.names and given.older_than is None:
        print("nothing is removed; name what to remove (pisa clean --help)")
        return 0
    if not chosen or not (given.yes or _confirmed(len(chosen))):
        return 0
    return max([remove(entry) for entry in chosen])


def entries(data_dir: Path, output_dir: Path) -> Iterator[Entry]:
    """The folders in the two places that this project has written; links are left out."""
    for root, kind, marks in ((data_dir, "data set", _DATA), (output_dir, "run", _RUN)):
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if path.is_symlink() or not path.is_dir():
                continue
            if kind == "data set" and path.name in _CACHES:
                yield _entry("cache", path)
            elif any((path / mark).exists() for mark in marks):
                yield _entry(kind, path)


def choose(
    found: Sequence[Entry], names: Sequence[str], older_than_days: float | None
) -> list[Entry]:
    """Those of ``found`` that match a name or a path, and are older than requested.

    Raises:
        PisaError: a name that matches nothing.
    """
    matched: list[Entry] = [] if names else list(found)
    for name in names:
        some = [e for e in found if fnmatch.fnmatch(e.path.name, name) or e.path == Path(name)]
        if not some:
            raise PisaError(f"no data set or run {name!r}; pisa clean lists them")
        matched += [entry for entry in some if entry not in matched]
    limit = older_than_days or 0.0
    return [entry for entry in matched if entry.age_days >= limit]


def remove(entry: Entry) -> int:
    """Remove one folder; returns 0, or 2 where another process holds it."""
    try:
        with hold(entry.path):
            shutil.rmtree(entry.path)
    except PisaError as error:
        print(f"kept: {error}", file=sys.stderr)
        return 2
    print(f"removed: {entry.path}")
    return 0


def _entry(kind: str, path: Path) -> Entry:
    sizes, newest = 0, path.lstat().st_mtime
    for inner in path.rglob("*"):
        facts = inner.lstat()
        sizes += facts.st_size
        newest = max(newest, facts.st_mtime)
    return Entry(kind, path, sizes, (time.time() - newest) / DAY_S)


def _show(chosen: Sequence[Entry]) -> None:
    width = max((len(str(entry.path)) for entry in chosen), default=0)
    for entry in chosen:
        size = f"{entry.size_bytes / 1e6:10,.1f} MB"
        print(f"{entry.kind:8}  {entry.path!s:{width}}  {size}  {entry.age_days:6.1f} days")
    total = sum(entry.size_bytes for entry in chosen)
    print(f"{len(chosen)} folders, {total / 1e9:.2f} GB")


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise PisaError("there is no terminal to ask in; add --yes to remove")
    return input(f"remove {count} folders? [y/N] ").strip().lower() in ("y", "yes")
