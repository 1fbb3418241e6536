"""Digest of all that decides a stage's weights; it names the stage's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pisa.io.weights import SHIPPED
from pisa.launch.settings import Node
from pisa.launch.targets import Part

# Groups that decide the weights of a stage, with the stage itself and its data sets.
RESULT_KEYS = ("seed", "model", "perception", "data", "trainer")
IRRELEVANT = (
    "num_workers",
    "enable_progress_bar",
    "val_check_interval",
    "validate_every",
    "checkpoint_every",
    "root",
    "latent_cache_dir",
    "cache_file",
    "expect_size",
    "expect_fps_hz",
)


def stage_digest(tree: Node, stages: Node, sets: list[str]) -> str:
    """Digest of all that decides a stage's weights, with data sets and shipped weights."""
    chosen = {key: tree[key] for key in RESULT_KEYS} | dict(stages)
    chosen = _without(chosen, IRRELEVANT)
    shipped = shipped_weights()
    used = sorted(shipped[name] for name in _shipped_names(chosen) if name in shipped)
    text = json.dumps([chosen, sets, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def shipped_weights() -> dict[str, str]:
    """SHA-256 of each weights file in the package, by name."""
    files = sorted(SHIPPED.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _shipped_names(settings: Any) -> Iterator[str]:
    """Names of weights files in settings: values that are one, and those that a class declares."""
    if isinstance(settings, Mapping):
        if "_target_" in settings:
            found = Part("", settings).target
            declared = getattr(getattr(found, "__self__", found), "shipped_weights", None)
            yield from [declared] if declared else []
        for value in settings.values():
            yield from _shipped_names(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _shipped_names(value)
    elif isinstance(settings, str):
        yield settings


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        off = ("lora",) if value.get("lora", ()) is None else ()
        return {k: _without(v, keys) for k, v in value.items() if k not in (*keys, *off)}
    return value
