"""Data sets by name: simulated when they are missing, in a folder named after their contents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from pisa.data.clip_io import discard_parts, write_clip
from pisa.data.manifest import (
    Manifest,
    clip_sha256,
    damaged_clips,
    is_complete,
    list_clips,
    read_manifest,
    write_manifest,
)
from pisa.errors import PisaError
from pisa.io.files import hold, write_atomic
from pisa.io.progress import track_clips
from pisa.simulation.produce import ClipsFailed, DataSetSpec, Shard, produce


class DataSets:
    """Data sets under ``root``, simulated when they are missing.

    A set's folder is ``NAME-DIGEST`` where the digest covers prior, backend and seeds: a changed
    setting makes another folder and never mixes clips. Where a name is expected, the path of a
    folder of clips works too.

    Args:
        root: where the folders are.
        specs: for each name a function that builds its specification.
        num_workers: processes that simulate.
        shard: the part of each data set that this machine makes; None is everything.
        timeout_s, attempts: see ``produce``.
    """

    def __init__(
        self,
        root: Path,
        specs: Mapping[str, Callable[[], DataSetSpec]],
        num_workers: int = 1,
        shard: Shard | None = None,
        timeout_s: float = 3600.0,
        attempts: int = 3,
    ) -> None:
        self.root, self.names, self.num_workers = root, tuple(specs), num_workers
        self.shard, self.timeout_s, self.attempts = shard or Shard(), timeout_s, attempts
        self._build = cache(lambda name: specs[name]())

    def spec(self, name: str) -> DataSetSpec:
        """Raises ``PisaError`` for an unknown name."""
        if name not in self.names:
            raise PisaError(
                f"no data set named {name!r}; valid: {', '.join(self.names)}, or a folder of clips"
            )
        return self._build(name)

    def folder_name(self, name: str) -> str:
        """``NAME-DIGEST``; a folder of clips is its own name, as an absolute path."""
        if self._is_folder(name):
            return str(Path(name).absolute())
        return f"{name}-{self.spec(name).digest()}"

    def num_clips(self, name: str) -> int:
        return len(list_clips(Path(name))) if self._is_folder(name) else self.spec(name).num_clips

    def prepare(self, folder: Path, folder_name: str) -> None:
        """Make the data set of a folder; does nothing where it is complete.

        Waits where another process makes it (the same shard of it).
        """
        if is_complete(folder):
            return
        name = folder_name.rpartition("-")[0]
        self.spec(name).simulator.check()  # before a folder is made
        shard = f".lock-{self.shard.index}-of-{self.shard.count}"
        with hold(folder, shard, waiting=f"another run makes {folder}; waiting for it"):
            if not is_complete(folder):
                self._make(folder, name)

    def make(self, name: str) -> Path:
        """Simulate a data set by name and return its folder."""
        folder = self.root / self.folder_name(name)
        self.prepare(folder, folder.name)
        return folder

    def verify(self, name: str) -> str:
        """Check every clip against the manifest's hashes and regenerate those that differ.

        Returns the result in one line. Raises ``PisaError`` for an unfinished set, and where a
        regenerated clip differs from the one in the manifest.
        """
        spec, folder = self.spec(name), self.root / self.folder_name(name)
        if not (folder / "manifest.json").exists():
            raise PisaError(f"{folder}: is unfinished or absent; simulate it first")
        wrong = damaged_clips(folder)
        for clip, what in wrong.items():
            print(f"{name}: {clip} is {what}")
            if what == "damaged":
                discard(folder / "clips" / clip)
        if wrong:
            spec.simulator.check()
            self._make_clips(folder, name, spec, Shard())
            hashes = read_manifest(folder).sha256
            other = [c for c in wrong if clip_sha256(folder / "clips" / c) != hashes[c]]
            if other:
                raise PisaError(
                    f"{folder}: the regenerated {other[0]} differs from the clip in the manifest; "
                    "other library versions than its `versions`?"
                )
        return f"{len(wrong)} of {spec.num_clips} clips were wrong and have been regenerated"

    def _is_folder(self, name: str) -> bool:
        return name not in self.names and Path(name).is_dir()

    def _make(self, folder: Path, name: str) -> None:
        spec, shard = self.spec(name), self.shard
        self._make_clips(folder, name, spec, shard)
        names = [spec.clip_name(i) for i in range(spec.num_clips)]
        missing = sum(not (folder / "clips" / n).is_dir() for n in names)
        if missing:
            print(
                f"{name}: shard {shard.index}/{shard.count} done; "
                f"{missing} clips from other shards are still missing"
            )
            return
        write_manifest(
            folder,
            Manifest(
                tuple(names),
                config_sha256=spec.digest(),
                seeds={n: spec.first_seed + i for i, n in enumerate(names)},
                sha256={n: clip_sha256(folder / "clips" / n) for n in names},
                versions=spec.simulator.versions(),
                licences=spec.simulator.licences(),
            ),
        )

    def _make_clips(self, folder: Path, name: str, spec: DataSetSpec, shard: Shard) -> None:
        clips, wanted = folder / "clips", [spec.clip_name(i) for i in shard.indices(spec.num_clips)]
        failed = folder / f"failed-{shard.index}-of-{shard.count}.json"
        try:
            clips.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PisaError(f"cannot write {clips}: {error.strerror}") from error
        discard_parts(clips, wanted)
        present = sum((clips / n).is_dir() for n in wanted)
        done = produce(
            spec,
            clips,
            write_clip,
            num_workers=self.num_workers,
            shard=shard,
            timeout_s=self.timeout_s,
            attempts=self.attempts,
        )
        try:
            for _ in track_clips(done, f"simulating {name}", len(wanted), present):
                pass
        except ClipsFailed as error:
            write_atomic(failed, json.dumps(error.reasons, indent=1).encode())
            raise
        failed.unlink(missing_ok=True)


def discard(clip: Path) -> None:
    """Remove a clip in one step: a half-removed one must not pass for a clip."""
    grave = clip.with_name(f".{clip.name}.damaged.old")
    shutil.rmtree(grave, ignore_errors=True)
    clip.rename(grave)
    shutil.rmtree(grave)
