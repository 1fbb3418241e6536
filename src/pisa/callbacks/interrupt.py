"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint of exactly that moment."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from pisa.callbacks.checkpoints import save_between_steps

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(Checkpoint):
    """Saves ``path`` once the running step is done and raises ``KeyboardInterrupt``.

    Done means logged and, where it is due, validated; a second signal does not wait. As a
    ``Checkpoint`` it runs after all other callbacks. A run in its last step just ends.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        asked = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        if not asked or batch_idx % trainer.accumulate_grad_batches:
            return
        if self.path.is_symlink():
            self.path.unlink()
        save_between_steps(trainer, self.path)
        raise KeyboardInterrupt

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
