"""The classes a configuration names, imported before the hours of work that lead up to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from pisa.types import PisaError


def check_targets(cfg: DictConfig, group: str) -> None:
    """Import every ``_target_`` of ``cfg[group]``.

    Raises:
        PisaError: one that is not there or does not import, with the reason.
    """
    for target in _targets(OmegaConf.to_container(cfg[group], resolve=False)):
        try:
            get_object(target)
        except Exception as error:  # whatever the module does when it is imported
            raise PisaError(f"{group}: cannot import {target}: {_reason(error)}") from error


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str) and "${" not in target:
            yield target
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in inner:
        yield from _targets(value)


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom; Hydra's own errors only say where."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
