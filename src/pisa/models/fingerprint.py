"""Digests of a module's weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def module_sha256(module: nn.Module, *settings: object) -> str:
    """Hash of every parameter and buffer (name, dtype, shape, bits) and of ``settings``."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in sorted(module.state_dict().items()):
        content = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)}".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
