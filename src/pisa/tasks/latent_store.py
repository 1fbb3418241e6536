"""Latents on disk by content, so that a codec runs once per clip over all runs and ranks."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pisa.ops.video import to_uint8
from pisa.types import PisaError

FORMAT = "1"


@runtime_checkable
class HasCodecFingerprint(Protocol):
    """A video model that can say which latents its codec makes."""

    def codec_fingerprint(self) -> str:
        """A digest that changes with the codec's weights and settings, and with nothing else."""
        ...


class LatentStore:
    """Files ``folder/ab/abcd....safetensors``, one latent each, named after what it is made from.

    The name is a hash of the clip's 8-bit frames and of ``codec``. A file appears whole or not at
    all, and ranks that make the same latent at once write the same bytes, so there are no locks.
    What cannot be read, or whose checksum is wrong, counts as absent and is written again.
    """

    def __init__(self, folder: Path | str, codec: str) -> None:
        self.folder = Path(folder)
        self.codec = codec

    def key(self, video: Float[Tensor, "3 t h w"]) -> str:
        """The name of this clip's latent."""
        frames = to_uint8(video).cpu().contiguous()
        digest = hashlib.sha256(f"{FORMAT} {self.codec} {tuple(frames.shape)}".encode())
        digest.update(frames.numpy().tobytes())
        return digest.hexdigest()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Float[Tensor, "c f i j"] | None:
        """The latent, on the CPU; None where it is absent or damaged."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                latent = file.get_tensor("latent")
                intact = (file.metadata() or {}).get("sha256") == _checksum(latent)
        except (OSError, SafetensorError):
            return None
        return latent if intact else None

    def put(self, key: str, latent: Float[Tensor, "c f i j"]) -> None:
        """Write one latent.

        Raises:
            PisaError: it cannot be written (disk full, read-only).
        """
        path = self.path(key)
        whole = latent.detach().cpu().contiguous()
        content = save({"latent": whole}, {"sha256": _checksum(whole)})
        partial = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise PisaError(f"cannot write the latent cache {path}: {error.strerror}") from error


def latent_store(folder: Path | str, model: object, *settings: str) -> LatentStore:
    """The store of a model's latents; ``settings`` are what else decides them.

    Raises:
        PisaError: the model does not say which codec it has.
    """
    if not isinstance(model, HasCodecFingerprint):
        name = type(model).__name__
        raise PisaError(f"latent_cache_dir needs a model with codec_fingerprint(); {name} has none")
    return LatentStore(folder, " ".join([model.codec_fingerprint(), *settings]))


def _checksum(latent: Tensor) -> str:
    header = f"{latent.dtype} {tuple(latent.shape)}".encode()
    return hashlib.sha256(header + latent.view(torch.uint8).numpy().tobytes()).hexdigest()
