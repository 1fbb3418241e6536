"""Weights: found in a file, a folder or a Hugging Face repository, read, checked and written.

Sharded checkpoints (an ``*.index.json`` beside its shards) are understood. Pickled files are read
with ``weights_only=True``, which admits tensors and nothing that runs code.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pisa.types import PisaError

CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "ema.safetensors",
    "ema.pt",
)
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_Module = TypeVar("_Module", bound=nn.Module)


def fill(module: _Module, paths: list[Path]) -> _Module:
    """Load the files' tensors into ``module``, strictly; parameters on "meta" come alive.

    Raises:
        PisaError: unreadable, or tensors that do not fit.
    """
    hollow = any(tensor.is_meta for tensor in module.state_dict().values())
    try:
        state = read_state_dict(paths)
        check_values(module.state_dict(), state, str(paths[0]))
        module.load_state_dict(state, strict=True, assign=hollow)
    except RuntimeError as error:
        name = type(module).__name__
        raise PisaError(f"the weights in {paths[0]} do not fit {name}: {_brief(error)}") from error
    return module


def find_shards(source: str | Path, file: str | None = None) -> list[Path]:
    """Local paths of the files that hold the state dict, downloaded if need be.

    Raises ``PisaError`` where there are none.
    """
    path = Path(source).expanduser()
    names = CANDIDATES if file is None else (file,)
    if path.is_file():
        return _shards(path, path.parent.joinpath)
    if path.is_dir():
        return _in_folder(path, names)
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise PisaError(
            f"no weights at {source}: give a weights file, a folder that holds one of "
            f"{', '.join(names)}, or a Hugging Face repository id (owner/name)"
        )
    return _in_repository(str(source), names)


def read_state_dict(paths: list[Path]) -> dict[str, Tensor]:
    """All tensors of the files, on the CPU.

    Raises:
        PisaError: a file is missing, damaged, or holds anything but tensors.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        state.update(_read_file(path))
    return state


def check_same_network(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str
) -> None:
    """Compare names, shapes and kinds of tensors, and refuse NaN and infinity.

    Raises:
        PisaError: one sentence with the number and the first of the differences.
    """
    missing = [k for k in expected if k not in found]
    unknown = [k for k in found if k not in expected]
    reshaped = [k for k in expected if k in found and expected[k].shape != found[k].shape]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    differences = [f"{len(v)} {kind} (first: {v[0]})" for kind, v in kinds.items() if v]
    if differences:
        raise PisaError(f"{source} is of another model: tensors {', '.join(differences)}")
    check_values(expected, found, source)


def check_values(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Refuse numbers that no training or export of this project writes.

    Raises:
        PisaError: integers where the network has floating point (a quantised file without its
            scales), or NaN or infinity.
    """
    for name, tensor in found.items():
        wanted = expected.get(name)
        if wanted is None or not wanted.is_floating_point():
            continue
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise PisaError(f"{source} holds {kind} tensors; floating point is needed ({name})")
        if not tensor.is_meta and not torch.isfinite(tensor).all():
            raise PisaError(f"{source} holds NaN or infinity: {name}")


def gathered(state: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU, gathered one by one; without ``keep`` they are dropped again."""
    whole = {}
    for name, tensor in state.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            whole[name] = full.detach().cpu().contiguous().clone()
    return whole


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """A safetensors file that appears whole or not at all.

    Raises:
        PisaError: it cannot be written (disk full, read-only).
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), partial, dict(metadata or {}))
        return partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise PisaError(f"cannot write {path}: {error}") from error


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise PisaError(f"cannot read weights {path}: {_brief(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise PisaError(f"{path} is not a state dict (a flat dictionary of tensors)")
    return content


def _in_folder(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        for parent in (folder, folder / "model"):
            if (parent / name).is_file():
                return _shards(parent / name, parent.joinpath)
    raise PisaError(f"no weights in {folder}: it holds none of {', '.join(names)}")


def _in_repository(repository: str, names: tuple[str, ...]) -> list[Path]:
    for name in names:  # whatever is cached already comes first, and needs no network
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return _shards(Path(cached), lambda shard: _download(repository, shard, names))
    for name in names:
        try:
            path = _download(repository, name, names)
        except EntryNotFoundError:
            continue  # the repository is there and has no such file: try the next name
        return _shards(path, lambda shard: _download(repository, shard, names))
    raise PisaError(f"Hugging Face repository {repository} holds none of {', '.join(names)}")


def _download(repository: str, name: str, names: tuple[str, ...]) -> Path:
    """The file's local path; shows hub's progress bar while it downloads."""
    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError as error:
        raise PisaError(_offline(repository, name, names, error)) from error
    except EntryNotFoundError:
        raise
    except (OSError, ValueError) as error:  # hub's own errors and connection errors are OSErrors
        raise PisaError(_offline(repository, name, names, error)) from error


def _offline(repository: str, name: str, names: tuple[str, ...], error: Exception) -> str:
    return (
        f"cannot download {name} of Hugging Face repository {repository} ({_brief(error)}). "
        f"Without network: fetch the repository elsewhere, put its files into a folder (one of "
        f"{', '.join(names)}) and give that folder instead of {repository}"
    )


def _shards(path: Path, locate: Callable[[str], Path]) -> list[Path]:
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PisaError(f"cannot read the shard index {path}: {_brief(error)}") from error
    for shard in shards:
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            raise PisaError(f"{path} names {shard!r:.80}, which is no file beside it")
    paths = [locate(shard) for shard in shards]
    missing = [str(shard) for shard in paths if not shard.is_file()]
    if missing:
        raise PisaError(f"{path} names shards that are not there: {', '.join(missing)}")
    return paths


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
