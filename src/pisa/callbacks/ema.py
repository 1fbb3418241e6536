"""Exponential moving average of the denoiser's trainable parameters.

Lightning's ``EMAWeightAveraging`` isn't used: it deep-copies the whole LightningModule with frozen
parts, and doesn't support sharded modules. This one keeps one fp32 copy of what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from pisa.io.weights import check_fits
from pisa.ranges import Fraction
from pisa.tasks.base import denoiser_of
from pisa.tasks.sharding import laid_out_like, reshard_blocks, whole_tensor
from pisa.tasks.weights import EMA_KEY


class EMA(pl.Callback):
    """Averages after every optimiser step: ``e = decay e + (1 - decay) w`` (release: 0.99).

    Validation sees the average; so does ``averaged_weights``. Checkpoints hold
    both: the average lies under ``ema_denoiser``, by parameter name. Where the weights are sharded
    (``ShardedStrategy``) so is the average; checkpoints hold it whole.
    """

    def __init__(self, decay: Fraction = 0.99) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self._average: dict[str, Tensor] | None = None
        self._live: dict[str, Tensor] | None = None  # weights put aside while the average is in
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After a restore, which a sharding strategy does later than ``on_fit_start``."""
        weights = _trainable(pl_module)
        average = self._average or weights
        check_fits(weights, average, "the average in the checkpoint")
        self._average = {
            name: laid_out_like(average[name].detach().to(torch.float32, copy=True), weight)
            for name, weight in weights.items()
        }
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self._step or self._average is None:
            return
        self._step = trainer.global_step
        for name, weight in _trainable(pl_module).items():
            self._average[name].lerp_(weight.detach().float(), 1.0 - self.decay)

    @contextmanager
    def swapped_in(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """The average in the model, for code that runs between training steps."""
        nested = self._live is not None
        if not nested:
            self._put_in(pl_module)
        try:
            yield
        finally:
            if not nested:
                self._take_out(pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._put_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take_out(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._take_out(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._average is None:
            return
        gathered = {name: whole_tensor(value).cpu() for name, value in self._average.items()}
        checkpoint[EMA_KEY] = gathered if trainer.is_global_zero else {}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._average = checkpoint.get(EMA_KEY)

    @torch.no_grad()
    def _put_in(self, pl_module: pl.LightningModule) -> None:
        if self._average is None or self._live is not None:
            return
        weights = _trainable(pl_module)
        self._live = {name: weight.detach().clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.copy_(self._average[name])

    @torch.no_grad()
    def _take_out(self, pl_module: pl.LightningModule) -> None:
        if self._live is None:
            return
        reshard_blocks(denoiser_of(pl_module))
        for name, weight in _trainable(pl_module).items():
            weight.copy_(self._live[name])
        self._live = None


@contextmanager
def averaged_weights(trainer: pl.Trainer) -> Iterator[None]:
    """The average of the trainer's EMA callback in the model; without one, the weights as is."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    average = next((c for c in callbacks if isinstance(c, EMA)), None)
    if average is None:
        yield
        return
    with average.swapped_in(trainer.lightning_module):
        yield


def _trainable(pl_module: pl.LightningModule) -> dict[str, nn.Parameter]:
    return {n: p for n, p in denoiser_of(pl_module).named_parameters() if p.requires_grad}
