"""Training checkpoints on disk: whole or absent, and never unpickled beyond tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

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
            state = dict(checkpoint["state_dict"])
        except (PisaError, KeyError, TypeError, ValueError) as error:
            raise PisaError(
                f"cannot resume from {path}, which is damaged or not a training checkpoint; delete "
                f"it to resume from an older one or to start this stage again ({reason(error)})"
            ) from error
        check_finite(state, str(path))
        return checkpoint
