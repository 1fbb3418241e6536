"""Logs a run's data and weights as W&B artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import wandb
from lightning.pytorch.loggers import WandbLogger

from pisa.callbacks.checkpoints import newest_checkpoint
from pisa.io.files import sha256_of

MANIFEST = "manifest.json"


class Artifacts(pl.Callback):
    """Logs the manifests of all data sets, their hashes (in the configuration), and the weights.

    A manifest holds a hash of every clip, so its own hash stands for the data. Files are logged
    where they lie; offline, nothing is copied but manifests and the training checkpoint.

    Args:
        folder: of the run: ``weights.safetensors`` and ``checkpoints/``.
        checkpoint: log the newest training checkpoint too (several times the weights).
    """

    def __init__(self, folder: Path | str, checkpoint: bool = False) -> None:
        self.folder = Path(folder)
        self.checkpoint = checkpoint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        manifests = manifests_of(getattr(trainer, "datamodule", None))
        hashes = {name: sha256_of(path) for name, path in manifests.items()}
        for run in _runs(trainer):
            run.config.update({"data_sha256": hashes}, allow_val_change=True)
            for name, path in manifests.items():
                artifact = wandb.Artifact(name, "dataset", metadata={"sha256": hashes[name]})
                artifact.add_file(str(path), MANIFEST)
                run.log_artifact(artifact)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        files = [("weights", self.folder / "weights.safetensors")]
        if self.checkpoint and (newest := newest_checkpoint(self.folder / "checkpoints")):
            files.append(("checkpoint", newest))
        for kind, path in (entry for entry in files if entry[1].is_file()):
            data = {"step": trainer.global_step, "sha256": sha256_of(path)}
            for run in _runs(trainer):
                artifact = wandb.Artifact(f"{self.folder.name}-{kind}", "model", metadata=data)
                policy = "immutable" if kind == "weights" else "mutable"
                artifact.add_file(str(path), path.name, policy=policy, skip_cache=True)  # type: ignore[arg-type]
                run.log_artifact(artifact)


def manifests_of(data_module: Any) -> dict[str, Path]:
    """Manifest by folder name of every data set that a set-up data module reads."""
    sets = [getattr(data_module, "train_set", None), *getattr(data_module, "test_sets", [])]
    folders = [Path(data_set.folder) for data_set in sets if data_set is not None]
    return {f.name: f / MANIFEST for f in folders if (f / MANIFEST).is_file()}


def _runs(trainer: pl.Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]
