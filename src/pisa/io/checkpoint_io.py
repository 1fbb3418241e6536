"""Training checkpoints on disk: whole or absent, and never unpickled beyond tensors."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from pisa.types import PisaError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and moves; Lightning's own way copies across file systems."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        target = Path(path)
        partial = target.with_suffix(".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                partial.unlink()
            reason = _reason(error)
            raise PisaError(f"cannot write the checkpoint {target}: {reason}") from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Admits tensors and plain containers only, whatever ``weights_only`` says."""
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except (
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
        ) as error:
            reason = " ".join(str(error).split())[:120]
            raise PisaError(
                f"cannot resume from {path}, which is damaged or no training checkpoint; delete it "
                f"to start this stage from an older one or anew ({reason})"
            ) from error


def _reason(error: BaseException) -> str:
    """The system's word for it, as "No space left on device"; torch raises its own on top."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__context__
    return " ".join(str(error).split())
