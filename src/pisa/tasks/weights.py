"""Denoiser weights in checkpoints: what is in one, and whether it fits a model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pisa.io.weights import (
    check_same_network,
    find_shards,
    gathered,
    read_state_dict,
    write_tensors,
)
from pisa.models.lora import adapter_config, adapter_state, diffusers_adapters, frozen_names
from pisa.types import PisaError

PREFIX = "denoiser."
UNREADABLE = (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, KeyError, EOFError)
EMA_KEY = "ema_denoiser"  # checkpoint entry of the callback pisa.callbacks.ema.EMA


def save_denoiser(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], *, write: bool = True
) -> Path:
    """Write the denoiser's tensors to ``path`` (.safetensors); replaces the file in one move.

    Call it on every rank (sharded tensors are gathered) with ``write`` on one of them.
    """
    tensors = gathered(state, write)
    return write_tensors(path, tensors, metadata) if write else path


def save_adapter(folder: Path, denoiser: nn.Module, *, write: bool = True) -> None:
    """The LoRA adapter alone; nothing where there is none. On every rank.

    ``adapter_model.safetensors`` with ``adapter_config.json`` is for peft (and for resuming),
    ``pytorch_lora_weights.safetensors`` for ``load_lora_weights`` of diffusers pipelines.
    """
    config = adapter_config(denoiser)
    if config is None:
        return
    tensors = gathered(adapter_state(denoiser), write)
    for file, state in diffusers_adapters(denoiser).items():
        exported = gathered(state, write)
        if write:
            write_tensors(folder / file, exported, {"format": "pt"})
    if write:
        write_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))


def load_denoiser(denoiser: nn.Module, path: str | Path) -> dict[str, str]:
    """Load weights from a .safetensors export or a training checkpoint; the EMA where it has one.

    A folder, or a file that is neither, is read as the base model's own weights are: a checkpoint
    of the paper's release (``model/`` with its shards, or its ``ema.pt``) loads as it is.
    Returns the export's metadata, or ``{"step": ...}`` of the checkpoint.

    Raises:
        PisaError: the file is missing, unreadable, or holds another network.
    """
    source = Path(path)
    if not source.exists():
        raise PisaError(f"checkpoint not found: {source}")
    try:
        state, metadata = _read(source)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PisaError(f"{source} is damaged or no checkpoint: {reason}") from error
    check_same_network(denoiser.state_dict(), state, str(source))
    denoiser.load_state_dict(state)
    return metadata


def leave_out_base(checkpoint: dict[str, Any], denoiser: nn.Module) -> None:
    """Drop the frozen base weights of a LoRA run from a training checkpoint."""
    frozen = frozen_names(denoiser)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {
        name: value for name, value in state.items() if name.removeprefix(PREFIX) not in frozen
    }


def restore_base(checkpoint: dict[str, Any], denoiser: nn.Module) -> None:
    """The opposite of ``leave_out_base``: the base weights as they are in ``denoiser``."""
    frozen = frozen_names(denoiser)
    base = {f"{PREFIX}{n}": v for n, v in denoiser.state_dict().items() if n in frozen}
    checkpoint["state_dict"] = {**base, **checkpoint["state_dict"]}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.is_dir() or path.name.endswith(".index.json"):
        return read_state_dict(find_shards(path)), {}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
        return load_file(path), metadata
    checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict):
        raise PisaError(f"{path} is no checkpoint: it holds a {type(checkpoint).__name__}")
    if checkpoint and all(isinstance(value, Tensor) for value in checkpoint.values()):
        return checkpoint, {}
    state = {
        key.removeprefix(PREFIX): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(PREFIX)
    }
    state |= checkpoint.get(EMA_KEY, {})
    if any(".lora_A." in name for name in state):
        raise PisaError(
            f"{path} holds a LoRA adapter without the base model; give the weights.safetensors of "
            "that run, where the adapter is merged"
        )
    return state, {"step": str(checkpoint["global_step"])}
