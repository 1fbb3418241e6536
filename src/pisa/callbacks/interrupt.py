"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint of exactly that moment."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(Checkpoint):
    """Saves ``path`` at the end of the running step and raises ``KeyboardInterrupt``.

    A second signal does not wait. As a ``Checkpoint`` it runs after all other callbacks, so the
    average weights belong to the step.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not self._asked:
            return
        if self.path.is_symlink():  # Lightning's `save_last: link`
            self.path.unlink()
        trainer.save_checkpoint(self.path)
        raise KeyboardInterrupt

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
