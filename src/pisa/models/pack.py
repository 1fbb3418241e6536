"""Pack trained parts into one weights file for the package, in half precision.

`pisa pack OUT.safetensors denoiser=A.safetensors`; a part
without a name (`=A.safetensors`) keeps its tensor names as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from pisa.errors import PisaError
from pisa.io.weights import find, read, save


def pack(out: Path, parts: Mapping[str, Path]) -> int:
    """Write ``out`` with every tensor of each part under ``NAME.``; returns its size in bytes.

    Raises ``PisaError`` for a part that is not there.
    """
    tensors = {}
    for name, path in parts.items():
        prefix = f"{name}." if name else ""
        for key, value in read(find(path)).items():
            tensors[prefix + key] = value.to(torch.float16) if value.is_floating_point() else value
    return save(out, tensors).stat().st_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", metavar="NAME=FILE")


def main(given: argparse.Namespace) -> None:
    """Write the output file of NAME=FILE for each part."""
    pairs = [part.partition("=") for part in given.parts]
    if not all(separator for _, separator, _ in pairs):
        raise PisaError("every part is NAME=FILE")
    size = pack(given.out, {name: Path(path) for name, _, path in pairs})
    print(f"{given.out}: {size / 1e6:.1f} MB")
