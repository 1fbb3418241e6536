"""What a configuration may build: an allow-list for ``_target_``.

A configuration is data that people hand around, and ``_target_: os.system`` would make a program of
it. So every object is built by ``instantiate`` of this module, which looks at all targets in the
node first. Allowed are classes of this package (and methods that make one), its functions in
``FUNCTIONS``, and what ``FOREIGN`` names. Own code outside the package is allowed by naming its
modules in the environment: ``PISA_PLUGINS=brightness_reward,my_lab.rewards``; the environment is
the user's own, a configuration cannot set it.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import hydra.utils
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from pisa.errors import PisaError

PLUGINS = "PISA_PLUGINS"
PACKAGE = "pisa"
FUNCTIONS = (
    "pisa.diffusion.",
    "pisa.launch.mask_pairs.score_mask_pairs",
    "pisa.launch.run.score_models",
    "pisa.launch.studies.run_drop_time",
    "pisa.launch.studies.run_lift3d",
    "pisa.launch.study_ood.run_ood",
    "pisa.launch.upload.write_upload",
    "pisa.launch.video_source.score_videos",
)
FOREIGN = (
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.profilers.",
    "lightning.pytorch.strategies.",
)
GET_OBJECT = "hydra.utils.get_object"  # of dtypes only
SWEEP_SUMMARY = "pisa.launch.sweep.SweepSummary"
_HYDRAS_OWN = re.compile(  # launchers and sweepers: PACKAGE.module.Class, no way through a module
    r"(hydra\._internal\.core_plugins|hydra_plugins\.\w+)\.[a-z_]+\.[A-Z]\w*"
)
_FACTORIES = ("()", "class")  # what logging.config builds
_OF_HYDRA = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate`` of a node whose targets are all allowed.

    Raises:
        PisaError: a target in it is not, or is given an argument that it doesn't have.
    """
    for holder in _holders(node):
        check_target(str(holder.get("_target_")), holder)
    return hydra.utils.instantiate(node, *args, **kwargs)


def check_target(target: str, node: Any = None) -> None:
    """Raises ``PisaError`` for a target outside the allow-list (see the top of this file).

    ``node`` is the mapping that names it; each of its keys must be an argument of the target.
    """
    if target == GET_OBJECT:
        _check_dtype(str((node or {}).get("path")))
        return
    if not target.startswith((f"{PACKAGE}.", *FOREIGN, *_plugins())):
        raise PisaError(_refusal(target))
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:  # whatever importing a plugin raises
        raise PisaError(f"cannot import {target}: {_reason(error)}") from error
    if not _may_be_built(target, found):
        raise PisaError(_refusal(target))
    if node is not None:
        _check_arguments(target, found, node)


def look_up(target: str) -> Any:
    """The class or method of an allowed target, not built. Raises ``PisaError`` for others."""
    check_target(target)
    return hydra.utils.get_object(target)


def check_targets(cfg: DictConfig, group: str) -> None:
    """Look at every ``_target_`` of ``cfg[group]``, before the hours of work that lead up to it.

    Raises:
        PisaError: one that is not allowed, not there, or does not import, with the reason; or an
            argument that its target does not have, with the names of those it has.
    """
    for holder in _holders(cfg[group]):
        if OmegaConf.is_interpolation(holder, "_target_"):
            continue  # it is looked at when it is built
        try:
            check_target(str(holder.get("_target_")), holder)
        except PisaError as error:
            raise PisaError(f"{group}: {error}") from error


def check_hydra(node: DictConfig) -> None:
    """Hydra's own part of a configuration builds Hydra's own objects and sets up no logging.

    Raises:
        PisaError: callbacks, launchers or log handlers from elsewhere.
    """
    for holder in _holders(node):
        target = str(holder.get("_target_"))
        if target != SWEEP_SUMMARY and not _HYDRAS_OWN.fullmatch(target):
            raise PisaError(f"hydra: _target_ {target!r} is not on the allow-list")
    for part in ("job_logging", "hydra_logging"):
        if any(key in _FACTORIES for key in _keys(node.get(part))):
            raise PisaError(f"hydra.{part} must not name classes or factories")


def _may_be_built(target: str, found: Any) -> bool:
    """By where the object is defined: ``pisa.x.subprocess.run`` is no function of this package."""
    home = getattr(inspect.unwrap(found), "__module__", None) or ""
    root = target.partition(".")[0]
    if not (home == root or home.startswith(f"{root}.")):
        return False
    if root != PACKAGE:
        return True
    return inspect.isclass(found) or inspect.ismethod(found) or target.startswith(FUNCTIONS)


def _check_arguments(target: str, found: Any, node: Any) -> None:
    valid = _arguments(found)
    unknown = [str(key) for key in node if valid is not None and key not in (*_OF_HYDRA, *valid)]
    if unknown:
        names = ", ".join(sorted(valid or ())) or "none"
        name = target.rpartition(".")[2]
        raise PisaError(f"{name} has no argument {unknown[0]!r}; valid: {names}")


def _arguments(found: Callable[..., Any]) -> set[str] | None:
    """Names that may be passed; None where any may.

    Through ``**options`` a class takes what the one above it in this package takes.
    """
    makers = [found]
    if inspect.isclass(found):
        classes = [c for c in inspect.getmro(found) if "__init__" in vars(c) and c is not object]
        makers = [vars(c)["__init__"] for c in classes]
    names: set[str] = set()
    for maker in makers:
        kinds = {p.name: p.kind for p in inspect.signature(maker).parameters.values()}
        names |= {n for n, k in kinds.items() if k in (k.POSITIONAL_OR_KEYWORD, k.KEYWORD_ONLY)}
        if inspect.Parameter.VAR_KEYWORD not in kinds.values():
            return names - {"self"}
    return None if makers else names


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom; Hydra's own errors only say where."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _plugins() -> tuple[str, ...]:
    names = (name.strip() for name in os.environ.get(PLUGINS, "").split(","))
    return tuple(f"{name}." for name in names if name)


def _check_dtype(path: str) -> None:
    import torch  # slow; needed here only

    if not path.startswith("torch.") or not isinstance(
        getattr(torch, path.removeprefix("torch."), None), torch.dtype
    ):
        raise PisaError(f"{GET_OBJECT} takes dtypes of torch only, not {path!r}")


def _refusal(target: str) -> str:
    module = target.rpartition(".")[0]
    return (
        f"_target_ {target!r} is not on the allow-list; if it is your own code, run with "
        f"{PLUGINS}={module or target}"
    )


def _holders(node: Any) -> Iterator[Any]:
    """All mappings in a node that have a ``_target_``, interpolations followed."""
    if isinstance(node, dict | list) and not OmegaConf.is_config(node):
        node = OmegaConf.create(node)
    if isinstance(node, DictConfig | ListConfig) and not (node._is_none() or node._is_missing()):
        if isinstance(node, DictConfig) and "_target_" in node:
            yield node
        for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
            yield from _holders(_child(node, key))


def _child(node: Any, key: Any) -> Any:
    """The mapping or list behind a key; None for a plain value, and for what cannot be resolved."""
    if OmegaConf.is_interpolation(node, key):
        try:
            return node[key]
        except InterpolationResolutionError:  # building it raises the same
            return None
    child = node._get_node(key)
    return child if OmegaConf.is_config(child) else None


def _keys(node: Any) -> Iterator[str]:
    if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
        for key in node:
            yield str(key)
            yield from _keys(_child(node, key))
