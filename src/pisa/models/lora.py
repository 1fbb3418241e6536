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
_EXPERTS = {"high.": "", "low.": "_2"}  # networks of Wan 2.2, by diffusers' transformer suffix


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


def diffusers_adapters(denoiser: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The adapters as ``load_lora_weights`` of diffusers takes them, by file name.

    One file, or one for each expert of Wan 2.2 (the second is loaded with
    ``load_into_transformer_2=True``). ``alpha / rank`` is multiplied into B, so that loaders that
    assume alpha = rank are right.
    """
    scaling = {name: layer.scaling[ADAPTER] for name, layer in _layers(denoiser)}
    files: dict[str, dict[str, Tensor]] = {}
    for name, value in denoiser.state_dict().items():
        if not name.endswith(_MARKS):
            continue
        expert = next((prefix for prefix in _EXPERTS if name.startswith(prefix)), "")
        layer, _, part = name.removesuffix(f".{ADAPTER}.weight").rpartition(".")
        if part == "lora_B":
            value = value * scaling[layer]
        file = f"pytorch_lora_weights{_EXPERTS.get(expert, '')}.safetensors"
        key = f"transformer.{layer.removeprefix(expert)}.{part}.weight"
        files.setdefault(file, {})[key] = value
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
