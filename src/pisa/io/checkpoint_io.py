"""Training checkpoints on disk: whole or absent, and never unpickled beyond tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from pisa.errors import PisaError, reason
from pisa.io.files import replace_file
from pisa.io.weights import check_finite, read_pickle


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and moves; Lightning's own way copies across file systems."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        try:
            with replace_file(Path(path)) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch raises its own where the disk is full
            cause = reason(error.__context__ or error)
            raise PisaError(f"cannot write {path}: {cause}") from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Admits tensors and plain containers only, whatever ``weights_only`` says."""
        try:
            checkpoint = read_pickle(Path(path), map_location)
            if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
                raise PisaError(f"{path} is not a training checkpoint")
            for name, entry in checkpoint.items():
                if isinstance(entry, dict) and all(isinstance(v, Tensor) for v in entry.values()):
                    check_finite(entry, f"{path} ({name})")
        except PisaError as error:
            raise PisaError(
                f"cannot resume: {error}; delete {path} to resume from an older checkpoint, or to "
                "start this stage again where there is none"
            ) from error
        return checkpoint
