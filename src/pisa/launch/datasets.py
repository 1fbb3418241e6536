"""Data sets by name: simulated when they are missing, in a folder named after their contents."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, is_complete, write_manifest
from pisa.launch.progress import clip_progress
from pisa.simulation.produce import DataSetSpec, produce
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
        if "prior" in chosen:  # a scenario of its own, see configs/dataset
            prior = instantiate(chosen.prior)
        else:
            prior = instantiate(self._cfg.prior, motion=chosen.motion)
        backend = instantiate(self._cfg.simulation.backend)
        simulator = backend(prior=prior, **chosen.get("backend", {}))
        return DataSetSpec(simulator, chosen.split, chosen.num_clips, chosen.first_seed)

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

    def _make(self, folder: Path, name: str) -> None:
        spec = self.spec(name)
        clips = folder / "clips"
        try:
            clips.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PisaError(f"cannot write {clips}: {error.strerror}") from error
        present = sum((clips / spec.clip_name(i)).is_dir() for i in range(spec.num_clips))
        with clip_progress() as progress:
            task = progress.add_task(f"simulating {name}", total=spec.num_clips, completed=present)
            for _ in produce(spec, clips, write_clip, num_workers=self.num_workers):
                progress.advance(task)
        names = [spec.clip_name(i) for i in range(spec.num_clips)]
        seeds = {n: spec.first_seed + i for i, n in enumerate(names)}
        write_manifest(folder, Manifest(tuple(names), config_sha256=spec.digest(), seeds=seeds))
