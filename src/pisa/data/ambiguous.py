"""The ambiguous set: one first frame, several depths, several drop times (paper Appendix F)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pisa.data.dataset import ClipDataset
from pisa.data.families import check_families
from pisa.data.simulated import SimulatedDataModule


class AmbiguousDataModule(SimulatedDataModule):
    """Training batches from ``root/train`` and one test loader over ``root/test``.

    Both hold clips that share their first frame in families (five per scene in the paper, 1000
    scenes); the clip's ``drop_height_m`` tells the members apart. Sets of another kind are refused.
    ``options`` are those of ``SimulatedDataModule``. The camera is level and symmetric, so that
    mirror images (training only) follow the same distribution of drop times.
    """

    splits = ("ambiguous",)

    def __init__(
        self,
        root: Path | str,
        train: str = "ambiguous_train",
        test: str = "ambiguous_test",
        **options: Any,
    ) -> None:
        super().__init__(root, train, **options)
        self.test_names = (test,)

    def _dataset(self, name: str, num_clips: int | None, flip: bool = False) -> ClipDataset:
        check_families(self.root / name)
        return super()._dataset(name, num_clips, flip)
