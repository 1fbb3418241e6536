"""Which weights a configuration loads, and whether they are here; nothing is loaded or fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from torchvision.models.optical_flow import Raft_Large_Weights

from pisa.io.weights import CANDIDATES, shipped
from pisa.perception.depth_anything import VITS
from pisa.perception.sam2 import HUB_FILE, HUB_REPOSITORY
from pisa.perception.sam3 import HUB_REPOSITORY as SAM3_REPOSITORY

_T5 = (
    "model.safetensors", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_EMBEDDED = ("embedded_segmentation", "embedded_flow", "embedded_depth")


@dataclass(frozen=True)
class Weights:
    """A file or repository; ``place`` is where it lies, or where it goes when it is fetched."""

    name: str
    source: str
    place: str
    present: bool


def weights_of(node: Mapping[str, Any]) -> list[Weights]:
    """The weights that a model or teacher of these settings loads, without those inside it.

    An existing caption cache replaces its text encoder, as it does in training.
    """
    target = str(node.get("_target_", ""))
    if target.startswith("pisa.models.diffusers_i2v."):
        return [in_hub("pipeline", node["repository"], ("model_index.json",))]
    if target.startswith("pisa.models.opensora.adapter."):
        return list(_opensora(node))
    if target.startswith("pisa.models.tiny.") and node.get("weights"):
        return [packaged(str(node["weights"]))]
    for name in _EMBEDDED:
        if target.startswith(f"pisa.perception.{name}.") and target.endswith(".from_pretrained"):
            return [in_file(name, node["path"]) if node.get("path") else packaged(name)]
    if target.endswith(".random"):
        return []
    if target.startswith("pisa.perception.sam2."):
        return [_one_of("SAM 2.1", node.get("path"), HUB_REPOSITORY, HUB_FILE)]
    if target.startswith("pisa.perception.sam3."):
        return [in_hub("SAM 3", node.get("path") or SAM3_REPOSITORY, ("model.safetensors",))]
    if target.startswith("pisa.perception.depth_anything."):
        source = node.get("path") or VITS
        return [in_hub("Depth-Anything-V2", source, ("model.safetensors",))]
    if target.startswith("pisa.perception.raft."):
        return [_raft(node.get("path"))]
    return []


def in_hub(name: str, source: str, files: Sequence[str]) -> Weights:
    """A weights file, a folder that holds one of ``files``, or a repository of the hub."""
    path = Path(source).expanduser()
    if path.exists():
        folders = (path, path / "model")
        there = path.is_file() or any((f / n).is_file() for f in folders for n in files)
        return Weights(name, source, str(path), there)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        return Weights(name, source, str(path), False)
    for file in files:
        cached = try_to_load_from_cache(source, file)
        if isinstance(cached, str):
            return Weights(name, source, str(Path(cached).parent), True)
    return Weights(name, source, constants.HF_HUB_CACHE, False)


def in_file(name: str, path: str) -> Weights:
    """A file that the configuration names."""
    return Weights(name, str(path), str(path), Path(path).is_file())


def packaged(name: str) -> Weights:
    """A file of the package, or one named by its path."""
    stem = name.removesuffix(".safetensors")
    path = shipped(stem) if "/" not in name else Path(name)
    return Weights(stem, "shipped with the package", str(path), path.is_file())


def _one_of(name: str, path: str | None, repository: str, file: str) -> Weights:
    return in_file(name, path) if path else in_hub(name, repository, (file,))


def _opensora(node: Mapping[str, Any]) -> Iterator[Weights]:
    for key, name in (("denoiser", "STDiT3"), ("vae", "VAE")):
        if isinstance(node.get(key), str):
            yield in_hub(name, node[key], CANDIDATES)
    text: Any = node.get("text") or {}
    if text.get("source") is None:
        return
    cache = text.get("cache_file")
    if cache and Path(cache).is_file():
        yield Weights("T5 captions", str(text["source"]), str(cache), True)
    else:
        yield in_hub("T5 encoder", text["source"], _T5)


def _raft(path: str | None) -> Weights:
    if path:
        return in_file("RAFT", path)
    url = Raft_Large_Weights.C_T_V1.url
    place = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    return Weights("RAFT", url, str(place), place.is_file())
