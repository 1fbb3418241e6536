"""LoRA (arXiv:2106.09685) for the denoiser of any base model, on peft's layers.

The adapter multiplies every linear layer of the repeated blocks:
``W x + alpha / rank * B A x``, with B zero at first, so that training starts from the base model.
Adapters are float32 whatever the base model's dtype: in bfloat16 a step of 1e-5 changes few of
their numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pisa.errors import PisaError

ADAPTER = "default"  # peft's name for a single adapter
_MARKS = (f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight")
_MAX_MERGE_ERROR = 0.05  # of the adapter's own norm
# ComfyUI's names for diffusers' layers, by the class of the network.
_COMFYUI: dict[str, dict[str, str]] = {
    "WanTransformer3DModel": {
        "attn1": "self_attn", "attn2": "cross_attn", "to_q": "q", "to_k": "k", "to_v": "v",
        "to_out.0": "o", "add_k_proj": "k_img", "add_v_proj": "v_img",
        "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2",
        "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
        "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    },
    "LTXVideoTransformer3DModel": {},
    "LTX2VideoTransformer3DModel": {},
}  # fmt: skip
_COMFYUI_PARTS = ("blocks.", "transformer_blocks.", "img_emb.")  # that are renamed in full


def add_lora(
    denoiser: nn.Module, rank: int, alpha: int | None = None, targets: list[str] | None = None
) -> nn.Module:
    """Freeze the denoiser and put adapters into it, in place.

    ``targets`` are names of linear layers (or their last parts, e.g. ``qkv``); None takes all of
    the blocks. ``alpha`` defaults to ``rank``.

    Raises:
        PisaError: no such layer, or there are adapters already.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, and few runs need it

    if has_lora(denoiser):
        raise PisaError("the denoiser has LoRA adapters already; merge them first")
    chosen = targets if targets is not None else linear_layers_of_blocks(denoiser)
    config = LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(chosen))
    try:
        inject_adapter_in_model(config, denoiser, ADAPTER)
    except ValueError as error:
        raise PisaError(f"cannot add LoRA: {' '.join(str(error).split())[:200]}") from error
    for name, parameter in denoiser.named_parameters():
        if name.endswith(_MARKS):
            parameter.data = parameter.data.float()
    return denoiser


def has_lora(denoiser: nn.Module) -> bool:
    return any(True for _ in _layers(denoiser))


@contextmanager
def adapters_off(denoiser: nn.Module) -> Iterator[None]:
    """The base model within the block: the adapters add nothing."""
    layers = [layer for _, layer in _layers(denoiser)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def linear_layers_of_blocks(denoiser: nn.Module) -> list[str]:
    """Names of the linear layers inside the network's module lists.

    Raises ``PisaError`` where there are none.
    """
    lists = [name for name, m in denoiser.named_modules() if isinstance(m, nn.ModuleList)]
    found = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and any(name.startswith(f"{x}.") for x in lists)
    ]
    if not found:
        raise PisaError("the denoiser has no blocks with linear layers; name LoRA targets")
    return found


def merged_state(denoiser: nn.Module) -> dict[str, Tensor]:
    """The state dict under the base model's names, adapters added into the weights.

    Without adapters it is the state dict itself. The module stays as it is. The sum is taken in
    float32 and rounded once to the base model's dtype; a warning says when that rounding loses more
    than 5 % of the adapter (small adapters on bfloat16 weights: load the adapter instead).
    """
    state = denoiser.state_dict()
    merged = {
        name.replace(".base_layer.", "."): value
        for name, value in state.items()
        if not name.endswith(_MARKS)
    }
    lost = whole = torch.zeros(())
    for name, layer in _layers(denoiser):
        a, b = (state[f"{name}{mark}"].detach().float() for mark in _MARKS)
        base = merged[f"{name}.weight"].detach()
        delta = layer.scaling[ADAPTER] * (b @ a)
        merged[f"{name}.weight"] = (base.float() + delta).to(base.dtype)
        if base.dtype != torch.float32:
            kept = merged[f"{name}.weight"].float() - base.float()
            lost, whole = lost + (kept - delta).square().sum(), whole + delta.square().sum()
    error = float((lost / whole).sqrt()) if whole > 0 else 0.0
    if error > _MAX_MERGE_ERROR:
        warnings.warn(
            f"rounding the merged weights loses {error:.0%} of the LoRA adapter; load the adapter "
            "beside the base model instead",
            stacklevel=2,
        )
    return merged


def adapter_state(denoiser: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors under the names of peft's files."""
    return {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": value
        for name, value in denoiser.state_dict().items()
        if name.endswith(_MARKS)
    }


def pipeline_adapters(denoiser: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The adapters as diffusers and ComfyUI load them, by file name; none for other networks.

    ``pytorch_lora_weights.safetensors`` is for ``load_lora_weights`` of diffusers,
    ``comfyui.safetensors`` (Wan and LTX) has ComfyUI's names. Wan 2.2 has two files of each, one
    for each expert: diffusers' second is loaded with ``load_into_transformer_2=True``.
    ``alpha / rank`` is multiplied into B, so that loaders that assume alpha = rank are right.
    """
    files: dict[str, dict[str, Tensor]] = {}
    for network, suffix, noise in _networks(denoiser):
        if not type(network).__module__.startswith("diffusers."):
            continue
        tensors = _scaled(network)
        files[f"pytorch_lora_weights{suffix}.safetensors"] = {
            f"transformer.{name}": value for name, value in tensors.items()
        }
        names = _COMFYUI.get(type(network).__name__)
        if names is None:
            continue
        renamed = {_renamed(name, names): value for name, value in tensors.items()}
        if all(name.startswith(_COMFYUI_PARTS) for name in renamed):
            files[f"comfyui{noise}.safetensors"] = {
                f"diffusion_model.{name}": value for name, value in renamed.items()
            }
    return files


def adapter_config(denoiser: nn.Module) -> dict[str, Any] | None:
    """``adapter_config.json`` of peft, or None where there are no adapters."""
    layers = dict(_layers(denoiser))
    if not layers:
        return None
    first = next(iter(layers.values()))
    return {
        "peft_type": "LORA",
        "r": first.r[ADAPTER],
        "lora_alpha": first.lora_alpha[ADAPTER],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": list(layers),
    }


def frozen_names(denoiser: nn.Module) -> set[str]:
    """Names in the state dict that a checkpoint of a LoRA run need not hold: the base model."""
    if not has_lora(denoiser):
        return set()
    return {name for name in denoiser.state_dict() if not name.endswith(_MARKS)}


def _layers(denoiser: nn.Module) -> Iterator[tuple[str, Any]]:
    """peft's LoRA layers by name."""
    for name, module in denoiser.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "scaling"):
            yield name, module


def _networks(denoiser: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """The network, or Wan 2.2's two, with the suffixes of its files for diffusers and ComfyUI."""
    if hasattr(denoiser, "high") and hasattr(denoiser, "low"):
        yield denoiser.high, "", "_high_noise"  # type: ignore[misc]
        yield denoiser.low, "_2", "_low_noise"  # type: ignore[misc]
    else:
        yield denoiser, "", ""


def _scaled(network: nn.Module) -> dict[str, Tensor]:
    """A and B by ``LAYER.lora_A.weight``, the adapter's scaling multiplied into B."""
    state = network.state_dict()
    tensors = {}
    for name, layer in _layers(network):
        tensors[f"{name}.lora_A.weight"] = state[f"{name}{_MARKS[0]}"]
        tensors[f"{name}.lora_B.weight"] = state[f"{name}{_MARKS[1]}"] * layer.scaling[ADAPTER]
    return tensors


def _renamed(name: str, names: dict[str, str]) -> str:
    name = f".{name}"
    for ours, theirs in names.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name[1:]
