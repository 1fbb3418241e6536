"""Denoiser weights in checkpoints: what is in one, and whether it fits a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.io.weights import check_finite, fill, find, gather, read, read_metadata, read_pickle, save
from pisa.models.base import VideoModel
from pisa.models.lora import (
    adapter_config,
    adapter_state,
    frozen_names,
    make_room,
    pipeline_adapters,
)

PREFIX = "denoiser."
EMA_KEY = "ema_denoiser"  # checkpoint entry of the callback pisa.callbacks.ema.EMA


def save_denoiser(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], *, write: bool = True
) -> Path:
    """Write the denoiser's tensors to ``path`` (.safetensors); replaces the file in one move.

    Call it on every rank (sharded tensors are gathered) with ``write`` on one of them.
    """
    tensors = gather(state, write)
    return save(path, tensors, metadata) if write else path


def save_adapter(folder: Path, denoiser: nn.Module, *, write: bool = True) -> None:
    """The LoRA adapter alone; nothing where there is none. On every rank.

    ``adapter_model.safetensors`` with ``adapter_config.json`` is for peft; for those of diffusers
    and ComfyUI see ``pipeline_adapters``.
    """
    config = adapter_config(denoiser)
    if config is None:
        return
    files = {"adapter_model.safetensors": adapter_state(denoiser), **pipeline_adapters(denoiser)}
    for file, state in files.items():
        tensors = gather(state, write)
        if write:
            save(folder / file, tensors, {"format": "pt"})
    if write:
        write_atomic(folder / "adapter_config.json", json.dumps(config, indent=1).encode())


def load_denoiser(denoiser: nn.Module, path: str | Path) -> dict[str, str]:
    """Load weights from a .safetensors export or a training checkpoint; the EMA where it has one.

    A folder, or a file that is neither, is read as the base model's own weights are: a checkpoint
    of the paper's release (``model/`` with its shards, or its ``ema.pt``) loads as it is. LoRA
    adapters in the file stay beside the weights they add to, frozen.
    Returns the export's metadata, or ``{"step": ...}`` of the checkpoint.

    Raises:
        PisaError: the file is missing, unreadable, or holds another network.
    """
    source = Path(path)
    if not source.exists():
        raise PisaError(
            f"checkpoint not found: {source}; give a run folder, its weights.safetensors, or a "
            "file of its checkpoints"
        )
    state, metadata = _read(source)
    make_room(denoiser, state)
    fill(denoiser, state, source)
    return metadata


def codec_metadata(model: VideoModel) -> dict[str, str]:
    """Names the codec whose latents the denoiser was trained on; empty where it has no digest."""
    try:
        return {"codec": model.codec_fingerprint()}
    except PisaError:
        return {}


def load_weights(model: VideoModel, path: str | Path) -> None:
    """``load_denoiser`` into ``model.denoiser``; weights over another codec are refused.

    Weights that name no codec (released ones, training checkpoints) are taken as they are.
    """
    trained_over = load_denoiser(model.denoiser, path).get("codec")
    if trained_over is not None and codec_metadata(model).get("codec") != trained_over:
        raise PisaError(
            f"{path} was trained over the latents of another codec than this model's; give the "
            "model settings of that run"
        )


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
        return read(find(path)), {}
    if path.suffix == ".safetensors":
        return read([path]), read_metadata(path)
    checkpoint = read_pickle(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        return read([path]), {}
    state = {
        key.removeprefix(PREFIX): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(PREFIX)
    }
    state |= checkpoint.get(EMA_KEY, {})
    if any(".lora_A." in name for name in state):
        raise PisaError(
            f"{path} holds a LoRA adapter without the base model; give the weights.safetensors of "
            "that run, which holds both"
        )
    check_finite(state, str(path))
    return state, {"step": str(checkpoint["global_step"])}
