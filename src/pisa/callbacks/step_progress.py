"""The progress bar of a run that is counted in optimiser steps."""

from __future__ import annotations

from lightning.pytorch.callbacks import RichProgressBar


class StepProgressBar(RichProgressBar):
    """Lightning's bar without the epoch: a run has one, and it would say "Epoch 0/-2"."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{'Training':{len(self.validation_description)}}"  # as wide: no flicker
