"""Reads the reference data; see data/README_opensora.md."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pisa.models.opensora import STDiT3

torch.set_num_threads(1)

DATA = Path(__file__).parent / "data"
CHECKOUT = Path(__file__).resolve().parents[2]


def description(name: str) -> dict[str, Any]:
    """A recorded JSON, by its bare name."""
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


def tensors(name: str) -> dict[str, Tensor]:
    """Tensors copied into this repository."""
    return load_file(DATA / f"{name}.safetensors")


def more_tensors(name: str) -> dict[str, Tensor]:
    """Tensors of the full reference set; skips the test where it is not there."""
    named = os.environ.get("PISA_REFERENCE_DIR")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "reference"
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} of the reference set is needed: set PISA_REFERENCE_DIR")
    return load_file(path)


@cache
def _state() -> dict[str, Tensor]:
    return tensors("stdit3_tiny_state_temporal") | tensors("stdit3_tiny_state_rest")


def tiny_stdit3(**overrides: Any) -> STDiT3:
    """The recorded 2-block network in eval mode."""
    model = STDiT3(**(description("stdit3_tiny")["config"] | overrides))
    model.load_state_dict(_state(), strict=True)
    return model.eval()


def case_inputs(tensors: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    prefix = f"{case}.in."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def relative_error(actual: Tensor | None, expected: Tensor) -> float:
    """Relative L2 error of one tensor."""
    assert actual is not None
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-12))
