"""Weights for others to use: the denoiser as one safetensors file at the end of a run."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl

from pisa.callbacks.ema import averaged_weights
from pisa.tasks.training import denoiser_of
from pisa.tasks.weights import save_denoiser


class ExportWeights(pl.Callback):
    """Writes the denoiser to ``path`` when a fit ends: the average where the EMA callback is on.

    Checkpoints to resume from are Lightning's ``ModelCheckpoint``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metadata = {"task": type(pl_module).__name__, "step": str(trainer.global_step)}
        with averaged_weights(trainer):
            save_denoiser(self.path, denoiser_of(pl_module), metadata, write=trainer.is_global_zero)
