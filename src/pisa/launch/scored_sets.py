"""The clips that models are scored on: splits of PisaBench, simulated or fetched when missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

from pisa.data.dataset import ClipDataset
from pisa.data.manifest import data_sha256
from pisa.data.real import RealDataModule
from pisa.errors import PisaError
from pisa.launch.runs import EvalRun, build_data
from pisa.types import Clip

REAL = "real"


class ScoredSets:
    """Clips and loaders by split: ``benchmark`` alone, or those of ``evaluation.splits``.

    Real clips are read as the group ``real`` says, all others as ``data``. Nothing is made or
    fetched before ``prepare``.

    Raises:
        PisaError: there is no such split.
    """

    def __init__(self, run: EvalRun) -> None:
        settings, benchmark = run.evaluation, run.benchmark
        self.splits: Sequence[str] = list(settings.splits) if benchmark is None else [benchmark]
        self._run, self._sets = run, run.sets
        self._options = {"num_eval_clips": settings.num_clips}
        self._data = build_data(
            run.data, self._sets, batch_size=settings.batch_size, **self._options
        )
        known = (*self._data.splits, REAL)
        unknown = [split for split in self.splits if split not in known]
        if unknown:
            raise PisaError(f"no test set named {unknown[0]!r}; valid: {', '.join(known)}")
        self.clips: Mapping[str, ClipDataset] = {}
        self.loaders: Mapping[str, DataLoader[Clip]] = {}

    def prepare(self) -> None:
        """Make or fetch the clips that are missing, and open the loaders.

        Raises:
            PisaError: they cannot be had; says what to fetch and where to put it.
        """
        clips: dict[str, ClipDataset] = {}
        loaders: dict[str, DataLoader[Clip]] = {}
        for module in self._modules():
            module.setup("test")
            clips |= dict(zip(module.splits, module.test_sets, strict=True))
            loaders |= dict(zip(module.splits, module.test_dataloader(), strict=True))
        self.clips = {split: clips[split] for split in self.splits}
        self.loaders = {split: loaders[split] for split in self.splits}

    @property
    def fps_hz(self) -> float:
        """Frame rate of the first clip."""
        return float(next(iter(self.clips.values()))[0].fps_hz)

    def sha256(self) -> str:
        """Digest of every split's files, by name."""
        return " ".join(f"{name}:{data_sha256(s.folder)}" for name, s in self.clips.items())

    def _modules(self) -> list[Any]:
        modules: list[Any] = []
        if REAL in self.splits:
            real: RealDataModule = self._run.real.build(
                root=str(self._run.data_dir), **self._options
            )
            real.prepare_data()
            modules.append(real)
        if any(split != REAL for split in self.splits):
            for split in self._data.splits:
                if split in self._sets.names:
                    self._sets.make(split)
            modules.append(self._data)
        return modules
