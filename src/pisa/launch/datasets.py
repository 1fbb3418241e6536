"""Data sets by name: simulated when they are missing, in a folder named after their contents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from omegaconf import DictConfig

from pisa.data.clip_io import discard_parts, write_clip
from pisa.data.manifest import (
    Manifest,
    clip_sha256,
    damaged_clips,
    is_complete,
    read_manifest,
    write_manifest,
)
from pisa.launch.progress import track_clips
from pisa.launch.targets import instantiate
from pisa.simulation.produce import ClipsFailed, DataSetSpec, Shard, produce
from pisa.types import PisaError


class DataSets:
    """The data sets of ``cfg.simulation``.

    A set's folder is ``NAME-DIGEST`` where the digest covers prior, backend and seeds: a changed
    setting makes another folder and never mixes clips.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self.root = Path(cfg.data_dir)
        self.num_workers = int(cfg.simulation.num_workers)

    def spec(self, name: str) -> DataSetSpec:
        known = self._cfg.simulation.datasets
        if name not in known:
            raise PisaError(f"no data set named {name!r}; valid: {', '.join(known)}")
        chosen = known[name]
        if "prior" in chosen:  # a scenario of its own, see configs/scenario
            prior = instantiate(chosen.prior)
        else:
            prior = instantiate(self._cfg.prior, motion=chosen.motion)
        backend = instantiate(self._cfg.simulation.backend)
        simulator = backend(prior=prior, **chosen.get("backend", {}))
        num_clips = self._cfg.get("num_clips") or chosen.num_clips
        return DataSetSpec(simulator, chosen.split, num_clips, chosen.first_seed)

    def folder_name(self, name: str) -> str:
        return f"{name}-{self.spec(name).digest()}"

    def prepare(self, folder: Path, folder_name: str) -> None:
        """Make the data set of a folder; does nothing where it is complete."""
        if is_complete(folder):
            return
        name = folder_name.rpartition("-")[0]
        self._make(folder, name)

    def make(self, name: str) -> Path:
        """Simulate a data set by name and return its folder."""
        folder = self.root / self.folder_name(name)
        self.prepare(folder, folder.name)
        return folder

    def verify(self, name: str) -> str:
        """Check every clip against the manifest's hashes, make the wrong ones anew; what was found.

        Raises ``PisaError`` for an unfinished set, and when a new clip is not the old one.
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
            self._make_clips(folder, name, spec, Shard())
            hashes = read_manifest(folder).sha256
            other = [c for c in wrong if clip_sha256(folder / "clips" / c) != hashes[c]]
            if other:
                raise PisaError(
                    f"{folder}: made anew, {other[0]} is not the clip that the manifest names; "
                    "other library versions than its `versions`?"
                )
        return f"{len(wrong)} of {spec.num_clips} clips were wrong and are made anew"

    def _make(self, folder: Path, name: str) -> None:
        spec, shard = self.spec(name), Shard.parse(self._cfg.get("shard"))
        self._make_clips(folder, name, spec, shard)
        names = [spec.clip_name(i) for i in range(spec.num_clips)]
        absent = sum(not (folder / "clips" / n).is_dir() for n in names)
        if absent:
            print(
                f"{name}: shard {shard.index}/{shard.count} is done, {absent} clips of others miss"
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
        workers = self._cfg.get("production") or {}
        done = produce(
            spec, clips, write_clip, num_workers=self.num_workers, shard=shard, **workers
        )
        try:
            for _ in track_clips(done, f"simulating {name}", len(wanted), present):
                pass
        except ClipsFailed as error:
            failed.write_text(json.dumps(error.reasons, indent=1), encoding="utf-8")
            raise
        failed.unlink(missing_ok=True)


def discard(clip: Path) -> None:
    """Remove a clip in one step: a half-removed one must not pass for a clip."""
    grave = clip.with_name(f".{clip.name}.damaged.old")
    shutil.rmtree(grave, ignore_errors=True)
    clip.rename(grave)
    shutil.rmtree(grave)
