"""Weights & Biases that also works without an account."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_only


class WandbLogger(LightningWandbLogger):
    """Logs offline when ``WANDB_API_KEY`` isn't set, and says then how to upload the run.

    ``offline`` True or False overrides; False is right after ``wandb login``.
    """

    def __init__(
        self,
        save_dir: Path | str,
        project: str = "pisa",
        name: str | None = None,
        offline: bool | None = None,
        **options: Any,
    ) -> None:
        self.is_offline = "WANDB_API_KEY" not in os.environ if offline is None else offline
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        super().__init__(
            save_dir=save_dir, project=project, name=name, offline=self.is_offline, **options
        )
        self._finished = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is None or self._finished:
            return
        self._finished = True
        if self.is_offline:
            print(f"To upload this run: wandb sync {Path(self._experiment.dir).parent}")
        self._experiment.finish()  # the next stage begins a run of its own
