"""The clips that models are scored on: splits of PisaBench, simulated or fetched when missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from torch.utils.data import DataLoader

from pisa.data.dataset import ClipDataset
from pisa.data.manifest import data_sha256
from pisa.data.real import RealDataModule
from pisa.launch.compose import build_data, data_sets, part
from pisa.launch.targets import instantiate
from pisa.types import Clip, PisaError

REAL = "real"


class ScoredSets:
    """Clips and loaders by split: ``cfg.benchmark`` alone, or those of ``cfg.evaluation.splits``.

    Real clips are read as ``cfg.real`` says, all others as ``cfg.data``. Nothing is made or fetched
    before ``prepare``.

    Raises:
        PisaError: there is no such split.
    """

    def __init__(self, cfg: DictConfig) -> None:
        settings = cfg.evaluation
        benchmark = cfg.get("benchmark")
        self.splits: Sequence[str] = list(settings.splits) if benchmark is None else [benchmark]
        self._cfg, self._sets = cfg, data_sets(cfg)
        self._options = {"num_eval_clips": settings.num_clips}
        self._data = build_data(
            part(cfg, "data"), self._sets, batch_size=settings.batch_size, **self._options
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
            real: RealDataModule = instantiate(
                self._cfg.real, root=self._cfg.data_dir, **self._options
            )
            real.prepare_data()
            modules.append(real)
        if any(split != REAL for split in self.splits):
            for split in self._data.splits:
                if split in self._cfg.simulation.datasets:
                    self._sets.make(split)
            modules.append(self._data)
        return modules
