"""Weights files: find, read, check, fill a module, save. Every part of the project uses these.

A source is a weights file, a folder that holds one, the name of a file shipped in ``pisa/weights``,
or a Hugging Face repository. Sharded checkpoints (an ``*.index.json`` beside its shards) are
understood. Pickled files are read with ``weights_only=True``, which runs no code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pisa.errors import PisaError, reason
from pisa.io.files import replace_file

SHIPPED = Path(str(resources.files("pisa"))) / "weights"
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
UNREADABLE = (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, KeyError, EOFError)
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FLOATS = ("F64", "F32", "F16", "BF16")  # of safetensors; 8-bit floats need a scale beside them
_Module = TypeVar("_Module", bound=nn.Module)


def find(source: str | Path, file: str | None = None) -> list[Path]:
    """Local paths of the files that hold the state dict, downloaded if need be.

    Args:
        source: a weights or index file, a folder (or its ``model`` sub-folder) that holds one, the
            bare name of a shipped file, or a repository id (``hpcai-tech/OpenSora-STDiT-v3``).
        file: name of the weights or index file; None tries ``CANDIDATES`` in order. Checkpoints of
            the paper's release hold ``model/`` (shards) and ``ema.pt``: like its inference this
            takes the former; name the latter to have the average.

    Raises:
        PisaError: nothing found, or no network; says what to fetch and where to put it.
    """
    path = Path(source).expanduser()
    names = CANDIDATES if file is None else (file,)
    if path.is_file():
        return _shards(path, path.parent.joinpath)
    if path.is_dir():
        return _in_folder(path, names)
    if path.name == str(source) and shipped(path.stem).is_file():
        return [shipped(path.stem)]
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise PisaError(
            f"no weights at {source}: give a weights file, a folder that holds one of "
            f"{', '.join(names)}, the name of a file shipped in pisa/weights, or a Hugging Face "
            "repository id (owner/name)"
        )
    return _in_repository(str(source), names)


def shipped(name: str) -> Path:
    """Where the package has, or would have, the weights of that name."""
    return SHIPPED / f"{name}.safetensors"


def read(paths: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of the files, on the CPU.

    Raises:
        PisaError: a file is missing, damaged, holds anything but tensors, or NaN or infinity.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        content = load_file(path) if _is_safe(path) else read_pickle(path)
        if isinstance(content, dict) and isinstance(content.get("model"), dict):  # SAM 2's files
            content = content["model"]
        if not isinstance(content, dict) or not _all_tensors(content):
            raise PisaError(f"{path} is not a state dict (a flat dictionary of tensors)")
        check_finite(content, str(path))
        state |= content
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; raises ``PisaError`` where it cannot be read."""
    _is_safe(path)
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def read_pickle(path: Path, map_location: Any = "cpu") -> Any:
    """Content of a ``torch.save`` file: tensors and plain containers only.

    Raises ``PisaError`` where it is missing, damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except UNREADABLE as error:
        raise PisaError(f"cannot read weights {path}: {reason(error)}") from error


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises ``PisaError`` naming the first tensor with NaN or infinity, and their number."""
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise PisaError(
            f"{source} holds NaN or infinity in {len(bad)} of {len(tensors)} tensors (first: "
            f"{bad[0]}); take weights from before training failed"
        )


def check_fits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Compare names, shapes and kinds of tensors.

    Raises:
        PisaError: one sentence with the number and the first of the differences.
    """
    both = [name for name in expected if name in found]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [n for n in both if expected[n].shape != found[n].shape],
    }
    differences = [f"{len(v)} {kind} (first: {v[0]})" for kind, v in kinds.items() if v]
    if differences:
        raise PisaError(f"{source} is of another model: tensors {', '.join(differences)}")
    for name in both:
        if expected[name].is_floating_point() and not _is_float(found[name]):
            raise _wrong_type(source, name, str(found[name].dtype).removeprefix("torch."))


def fill(module: _Module, tensors: Mapping[str, Tensor], source: str | Path) -> _Module:
    """Load the tensors into ``module``, strictly; parameters on "meta" come alive.

    Raises:
        PisaError: names, shapes or types of the tensors do not fit.
    """
    own = module.state_dict()
    check_fits(own, tensors, f"{source} (for {type(module).__name__})")
    module.load_state_dict(tensors, assign=any(tensor.is_meta for tensor in own.values()))
    return module


def load(module: _Module, source: str | Path, part: str = "", file: str | None = None) -> _Module:
    """Find, read and fill; with ``part`` only the tensors ``PART.*`` of the file.

    Raises ``PisaError``, see ``find``, ``read`` and ``fill``.
    """
    paths = find(source, file)
    tensors = read(paths)
    if part:
        prefix = f"{part}."
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if not tensors:
            raise PisaError(f"{paths[0]} has no weights of a {part}: no tensors {prefix}*")
    return fill(module, tensors, f"{paths[0]} ({part})" if part else paths[0])


def check_pretrained(module: nn.Module, source: str | Path) -> None:
    """Check weights that another library loaded from ``source``, a folder or a repository.

    Raises:
        PisaError: NaN or infinity, or, in a folder, integers where the module has numbers.
    """
    own = module.state_dict()
    check_finite(own, str(source))
    for path in sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []:
        with safe_open(path, framework="pt") as file:
            for name in set(file.keys()) & own.keys():
                kind = file.get_slice(name).get_dtype()
                if own[name].is_floating_point() and kind not in _FLOATS:
                    raise _wrong_type(str(path), name, kind)


def module_sha256(module: nn.Module, *settings: object) -> str:
    """Hash of every parameter and buffer (name, dtype, shape, bits) and of ``settings``."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in sorted(module.state_dict().items()):
        content = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)}".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def gather(state: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU, gathered one by one; without ``keep`` they are dropped again."""
    whole = {}
    for name, tensor in state.items():
        # A DTensor, whose class takes 5 CPU seconds to import.
        full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        if keep:
            whole[name] = full.detach().cpu().contiguous().clone()
    return whole


def save(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file in one step and return its path.

    Raises ``PisaError`` where it cannot be written (disk full, read-only).
    """
    try:
        with replace_file(path) as part:
            part.touch()
            mode = part.stat().st_mode
            save_file(dict(tensors), part, dict(metadata or {}))
            part.chmod(mode)  # safetensors leaves a file that only its owner may read
    except SafetensorError as error:
        raise PisaError(f"cannot write {path}: {reason(error)}") from error
    return path


def _is_safe(path: Path) -> bool:
    """Whether it is a safetensors file, whose header is read to see that it can be."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt"):
            return True
    except UNREADABLE as error:
        raise PisaError(f"cannot read weights {path}: {reason(error)}") from error


def _all_tensors(content: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())


def _is_finite(tensor: Tensor) -> bool:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a DTensor
    if local.is_meta or not local.numel() or not _is_float(local):
        return True
    low, high = torch.aminmax(local.detach())  # NaN propagates; needs no memory, unlike isfinite
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.element_size() >= 2


def _wrong_type(source: str, name: str, kind: str) -> PisaError:
    return PisaError(
        f"{source} holds {kind} tensors (first: {name}); floating point of 16 bits or more is "
        "needed: quantised weights cannot be loaded"
    )


def _in_folder(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        for parent in (folder, folder / "model"):
            if (parent / name).is_file():
                return _shards(parent / name, parent.joinpath)
    raise PisaError(f"no weights in {folder}: it holds none of {', '.join(names)}")


def _in_repository(repository: str, names: Sequence[str]) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache  # not needed for local files
    from huggingface_hub.errors import EntryNotFoundError

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


def _download(repository: str, name: str, names: Sequence[str]) -> Path:
    """The file's local path; shows the hub's progress bar while it downloads."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, ValueError) as error:  # the hub's own errors are OSErrors
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise
        raise PisaError(
            f"cannot download {name} of Hugging Face repository {repository} ({reason(error)}). "
            f"Without network: fetch the repository elsewhere, put its files into a folder (one of "
            f"{', '.join(names)}) and give that folder instead of {repository}"
        ) from error


def _shards(path: Path, locate: Callable[[str], Path]) -> list[Path]:
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        shards = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PisaError(f"cannot read the shard index {path}: {reason(error)}") from error
    for shard in shards:
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            raise PisaError(f"{path} names {shard!r:.80}, which is not a file beside it")
    paths = [locate(shard) for shard in shards]
    missing = [str(shard) for shard in paths if not shard.is_file()]
    if missing:
        raise PisaError(f"{path} names missing shards: {', '.join(missing)}")
    return paths
