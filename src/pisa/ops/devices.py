"""Devices and number formats by name."""

from __future__ import annotations

import gc

import torch

from pisa.errors import PisaError, check_choice, reason


def pick_device(name: str) -> torch.device:
    """``auto`` is the first GPU where there is one. Raises ``PisaError`` for no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PisaError(f"no device {name!r}: {reason(error)}") from error
    return device


def precision_of(setting: str) -> str:
    """Lightning's precision; ``auto`` is "bf16-mixed" on a CPU with bfloat16 units, else fp32."""
    if setting != "auto":
        return setting
    capable = torch.cpu.get_capabilities()
    fast = capable.get("amx_bf16", False) or capable.get("avx512_bf16", False)
    return "bf16-mixed" if fast else "32-true"


def dtype_of(name: str) -> torch.dtype:
    """``float32``, ``bfloat16`` or ``float16``; raises ``PisaError`` for other names."""
    check_choice("dtype", name, ("float32", "bfloat16", "float16"))
    found: torch.dtype = getattr(torch, name)
    return found


def free_memory() -> None:
    """Give back what unreachable objects hold: a trainer and its model refer to each other."""
    gc.collect()
    torch.cuda.empty_cache()
