"""Ctrl-C between two steps leaves a checkpoint from which the run continues bit for bit."""

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from pisa.callbacks.checkpoints import StopOnSignal


class Seeded(BoringModel):
    """Batches depend on the step alone."""

    def __init__(self, signal_at: int | None = None) -> None:
        super().__init__()
        self.signal_at = signal_at

    def training_step(self, batch, batch_idx):
        if self.global_step == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        generator = torch.Generator().manual_seed(self.global_step)
        return self.layer(torch.randn(4, 32, generator=generator)).square().mean()


def fit(folder: Path, model: Seeded, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    trainer = pl.Trainer(
        max_steps=8,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        default_root_dir=folder,
        callbacks=[StopOnSignal(folder / "last.ckpt")],
    )
    trainer.fit(model, ckpt_path=checkpoint, weights_only=True)
    return model.state_dict()


def test_an_interrupted_run_continues_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    whole = fit(tmp_path / "whole", Seeded())
    torch.manual_seed(0)
    with pytest.raises(SystemExit):
        fit(tmp_path / "cut", Seeded(signal_at=3))
    saved = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    torch.manual_seed(1)
    resumed = fit(tmp_path / "cut", Seeded(), tmp_path / "cut" / "last.ckpt")
    for key, value in whole.items():
        assert torch.equal(value, resumed[key])
