"""LoRA (arXiv:2106.09685) for the denoiser of any base model, on peft's layers.

The adapter adds to every linear layer of the repeated blocks:
``W x + alpha / rank * B A x``, with B zero at first, so that training starts from the base model.
Adapters are float32 whatever the base model's dtype: in bfloat16 a step of 1e-5 changes few of
their numbers. For the same reason a weights file holds them beside the base weights: added into
weights that are bfloat16, or that autocast rounds to it, most of a small adapter is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pisa.errors import PisaError

ADAPTER = "default"  # peft's name for a single adapter
_MARKS = (f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight")
_BESIDE = re.compile(r"(.+)\.(downs|ups)\.(\d+)")  # tensors of ``AdaptedLinear``
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


class AdaptedLinear(nn.Linear):
    """A linear layer with the frozen adapters of earlier stages: ``W x + sum_i up_i down_i x``."""

    def __init__(self, layer: nn.Linear, ranks: list[int]) -> None:
        """``layer`` with room for adapters of these ranks; it shares the layer's parameters."""
        sizes = (layer.in_features, layer.out_features)
        super().__init__(*sizes, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

        def room(*shape: int) -> nn.Parameter:
            values = torch.empty(shape, dtype=torch.float32, device=layer.weight.device)
            return nn.Parameter(values, requires_grad=False)

        self.downs = nn.ParameterList(room(rank, layer.in_features) for rank in ranks)
        self.ups = nn.ParameterList(room(layer.out_features, rank) for rank in ranks)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        for down, up in zip(self.downs, self.ups, strict=True):
            added = functional.linear(functional.linear(x.to(down.dtype), down), up)
            y = (y + added).to(y.dtype)
        return y


def exported_state(denoiser: nn.Module) -> dict[str, Tensor]:
    """The state dict under the base model's names, with adapters beside the weights they add to.

    Of ``LAYER.weight`` they are ``LAYER.downs.I`` (rank, in) and ``LAYER.ups.I`` (out, rank), one
    pair for each stage that trained one. Without adapters it is the state dict itself.
    """
    state = denoiser.state_dict()
    exported = {
        name.replace(".base_layer.", "."): value
        for name, value in state.items()
        if not name.endswith(_MARKS)
    }
    for name, layer in _layers(denoiser):
        a, b = (state[f"{name}{mark}"] for mark in _MARKS)
        number = len(getattr(layer.base_layer, "downs", ()))
        exported[f"{name}.downs.{number}"] = a
        exported[f"{name}.ups.{number}"] = layer.scaling[ADAPTER] * b
    return exported


def merged_state(exported: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a weights file under the base model's names alone: adapters are added.

    Weights with an adapter become float32, so that nothing of it is lost.
    """
    found = {name: _BESIDE.fullmatch(name) for name in exported}
    merged = {name: exported[name] for name, match in found.items() if match is None}
    for name, match in found.items():
        if match is not None and match[2] == "downs":
            weight, up = f"{match[1]}.weight", exported[f"{match[1]}.ups.{match[3]}"]
            merged[weight] = merged[weight].float() + up @ exported[name]
    return merged


def make_room(denoiser: nn.Module, exported: Mapping[str, Tensor]) -> None:
    """Give the linear layers, in place, the adapters that a weights file has, and no others."""
    ranks: dict[str, list[int]] = {}
    for name, tensor in exported.items():
        match = _BESIDE.fullmatch(name)
        if match is not None and match[2] == "downs":
            ranks.setdefault(match[1], []).append(len(tensor))
    for name, layer in list(denoiser.named_modules()):
        adapted = isinstance(layer, AdaptedLinear)
        if not adapted and not (name in ranks and isinstance(layer, nn.Linear)):
            continue
        if adapted:
            plain = nn.Linear(1, 1, bias=layer.bias is not None, device="meta")
            plain.in_features, plain.out_features = layer.in_features, layer.out_features
            plain.weight, plain.bias = layer.weight, layer.bias
            layer = plain
        if name in ranks:
            layer = AdaptedLinear(layer, ranks[name])
        denoiser.set_submodule(name, layer)


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
