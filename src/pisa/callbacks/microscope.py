"""The gradient of ORO under the microscope: what each denoising step contributes to it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch

from pisa.callbacks.pisabench import StepInterval
from pisa.tasks.gradient_steps import Gradient, StepGradients, cosine, norm
from pisa.tasks.oro import ORO
from pisa.types import Batch


class GradientMicroscope(pl.Callback):
    """Every ``every_n_steps`` optimiser steps, looks at the batch that is about to be trained on.

    Logs, for every denoising step k (0 is the noisiest), of the gradient of minus the mean reward:
    ``microscope/step_k_norm``, ``microscope/step_k_cosine`` (to the full gradient) and
    ``microscope/step_k_share`` (of the full gradient; shares sum to 1). Further
    ``microscope/full_norm``, the terms of the reward, the fraction of steps clipped so far and, on
    a single process, ``microscope/used_cosine`` and ``microscope/used_norm_ratio`` of the gradient
    that training itself computes for this batch, with its window of steps and its regulariser, to
    the full one.

    It costs about three further passes on those steps (one forward, two backward) and changes
    nothing in training. Acts in ORO only, on the first micro-batch of an optimiser step.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self._interval = StepInterval(every_n_steps)
        self._full: Gradient | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, ORO) or batch_idx % trainer.accumulate_grad_batches:
            return
        if not self._interval.due(trainer.global_step):
            return
        with _same_randomness(pl_module.device), trainer.precision_plugin.train_step_context():
            found = pl_module.step_gradients(batch, batch_idx)
        terms = {f"reward_{k}": v.item() for k, v in pl_module.reward_terms.means.items()}
        clipped = {"clipped_fraction": pl_module.clipped_fraction}
        _log(trainer, _values(found) | terms | clipped)
        self._full = found.full

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._full is None or not isinstance(pl_module, ORO):
            return
        if trainer.world_size == 1:
            trained = [p for p in pl_module.denoiser.parameters() if p.requires_grad]
            used = [p.grad for p in trained]
            ratio = norm(used) * trainer.accumulate_grad_batches / max(norm(self._full), 1e-30)
            values = {"used_cosine": cosine(used, self._full), "used_norm_ratio": ratio}
            _log(trainer, values)
        self._full = None

    def state_dict(self) -> dict[str, Any]:
        return {"last_step": self._interval.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._interval.last_step = state_dict["last_step"]


def _values(found: StepGradients) -> dict[str, float]:
    values = {"full_norm": norm(found.full)}
    per_step = zip(found.norms, found.cosines, found.shares, strict=True)
    for step, (length, direction, share) in enumerate(per_step):
        name = f"step_{step:02d}"
        values |= {f"{name}_norm": length, f"{name}_cosine": direction, f"{name}_share": share}
    return values


def _log(trainer: pl.Trainer, values: dict[str, float]) -> None:
    named = {f"microscope/{name}": value for name, value in values.items()}
    for logger in trainer.loggers:
        logger.log_metrics(named, step=trainer.global_step)


def _same_randomness(device: torch.device) -> Any:
    """Whatever is drawn inside, training draws the same after as without."""
    if device.type == "cpu":
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device.index or 0], device_type=device.type)
