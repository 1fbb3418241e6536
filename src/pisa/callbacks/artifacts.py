"""Logs a run's data and weights as W&B artifacts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import wandb
from lightning.pytorch.loggers import WandbLogger

from pisa.callbacks.checkpoints import newest_checkpoint

KINDS = ("data", "weights", "checkpoint")
MANIFEST = "manifest.json"


class Artifacts(pl.Callback):
    """Logs the manifests of all data sets, their hashes (in the configuration), and the weights.

    A manifest holds a hash of every clip, so its own hash stands for the data. Files are logged
    where they lie; offline, nothing is copied but manifests and the training checkpoint.

    Args:
        folder: of the run: ``weights.safetensors`` and ``checkpoints/``.
        kinds: some of ``KINDS``; ``checkpoint`` (resumable, several times the weights) is extra.
    """

    def __init__(self, folder: Path | str, kinds: Sequence[str] = ("data", "weights")) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no artifacts of kind {unknown[0]!r}; valid: {', '.join(KINDS)}")
        self.folder = Path(folder)
        self.kinds = tuple(kinds)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or "data" not in self.kinds:
            return
        manifests = manifests_of(getattr(trainer, "datamodule", None))
        for run in _runs(trainer):
            run.config.update({"data_sha256": manifests_sha256(manifests)}, allow_val_change=True)
            for name, path in manifests.items():
                artifact = wandb.Artifact(name, "dataset", metadata={"sha256": _sha256(path)})
                artifact.add_file(str(path), MANIFEST)
                run.log_artifact(artifact)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        paths = {
            "weights": self.folder / "weights.safetensors",
            "checkpoint": newest_checkpoint(self.folder / "checkpoints"),
        }
        for kind, path in paths.items():
            if kind not in self.kinds or path is None or not path.is_file():
                continue
            for run in _runs(trainer):
                data = {"step": trainer.global_step, "sha256": _sha256(path)}
                artifact = wandb.Artifact(f"{self.folder.name}-{kind}", "model", metadata=data)
                policy = "immutable" if kind == "weights" else "mutable"
                artifact.add_file(str(path), path.name, policy=policy, skip_cache=True)  # type: ignore[arg-type]
                run.log_artifact(artifact)


def manifests_of(data_module: Any) -> dict[str, Path]:
    """Manifest by folder name of every data set that a set-up data module reads."""
    sets = [getattr(data_module, "train_set", None), *getattr(data_module, "test_sets", [])]
    folders = [Path(data_set.folder) for data_set in sets if data_set is not None]
    return {f.name: f / MANIFEST for f in folders if (f / MANIFEST).is_file()}


def manifests_sha256(manifests: dict[str, Path]) -> dict[str, str]:
    """Hash of each manifest."""
    return {name: _sha256(path) for name, path in manifests.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _runs(trainer: pl.Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]
