"""The allow-list of ``_target_``: the objects a configuration may build.

A configuration is data that people pass on, and ``_target_: os.system`` would make it a program. So
every object is built by ``instantiate`` of this module, which checks all targets in the
node first. Allowed are classes of this package (and methods that make one), its functions in
``FUNCTIONS``, and those in ``FOREIGN``. Own code outside the package is allowed by naming its
modules in the environment: ``PISA_PLUGINS=brightness_reward,my_lab.rewards``; the environment is
the user's own, a configuration cannot set it.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, get_type_hints

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

from pisa.errors import PisaError, reason
from pisa.launch.settings import TrainerSettings
from pisa.ranges import problem

PLUGINS = "PISA_PLUGINS"
PACKAGE = "pisa"
FUNCTIONS = (
    "pisa.diffusion.",
    "pisa.launch.evaluate.score_best_of",
    "pisa.launch.evaluate.score_models",
    "pisa.launch.generate.write_upload",
    "pisa.launch.mask_pairs.score_mask_pairs",
    "pisa.launch.section5.run_drop_time",
    "pisa.launch.section5.run_lift3d",
    "pisa.launch.section5.run_ood",
    "pisa.launch.section5.run_forced_choice",
)
FOREIGN = (
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.profilers.",
    "lightning.pytorch.strategies.",
)
SWEEP_SUMMARY = "pisa.launch.sweep.SweepSummary"
_HYDRAS_OWN = re.compile(  # launchers and sweepers: PACKAGE.module.Class, no way through a module
    r"(hydra\._internal\.core_plugins|hydra_plugins\.\w+)\.[a-z_]+\.[A-Z]\w*"
)
_FACTORIES = ("()", "class")  # what logging.config builds
RANGES = {"lightning.pytorch.Trainer": get_type_hints(TrainerSettings, include_extras=True)}
_OF_HYDRA = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


@dataclass(frozen=True)
class Part:
    """Something that the configuration names by ``_target_``: declared, checked, built when needed.

    ``settings`` are plain values, interpolations resolved; ``name`` is their place in the
    configuration.
    """

    name: str
    settings: Mapping[str, Any]

    @property
    def target(self) -> Any:
        """The class or method itself, not called."""
        target = str(self.settings["_target_"])
        check_target(target)
        return hydra.utils.get_object(target)

    @classmethod
    def checked(cls, name: str, settings: Mapping[str, Any]) -> Part:
        """Declare it after a check of every target and argument in the settings."""
        check_targets(settings, name)
        return cls(name, settings)

    def build(self, **options: Any) -> Any:
        """Build it; ``options`` are objects that are passed on beside the settings."""
        return _build(self.settings, options)


def instantiate(node: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate`` of a node whose targets are all allowed.

    Raises:
        PisaError: a target in it is not, or is given an argument that it doesn't have.
    """
    return _build(plain(node), kwargs)


def _build(settings: Any, options: Mapping[str, Any]) -> Any:
    check_targets(settings, "")
    try:
        return hydra.utils.instantiate(dict(settings), **options)
    except InstantiationException as error:
        if isinstance(error.__cause__, PisaError):
            raise error.__cause__ from None
        raise


def plain(node: Any) -> Any:
    """Plain containers of a configuration, every interpolation resolved.

    Raises ``PisaError`` for a text that would be an interpolation again once it is resolved: the
    settings that are checked must be those that are built.
    """
    config = node if OmegaConf.is_config(node) else OmegaConf.create(node)
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    for _, part in _parts(resolved, ""):
        for text in part if isinstance(part, Mapping) else (part,):
            if isinstance(text, str) and "${" in text:
                raise PisaError(f"an escaped interpolation is not allowed in a setting: {text!r}")
    return resolved


def check_targets(settings: Any, name: str) -> None:
    """Check every ``_target_`` of plain settings and its arguments, before any work.

    Raises:
        PisaError: a target that is not allowed, missing, or cannot be imported, with the reason; an
            argument that the target does not have, with the names of those it has; or a value
            outside the argument's annotation (``pisa.ranges``).
    """
    for place, holder in _holders(settings, name):
        try:
            check_target(str(holder["_target_"]), holder, place)
        except PisaError as error:
            text = str(error)
            known = not name or text.startswith(name)
            raise PisaError(text if known else f"{name}: {text}") from error


def check_target(target: str, node: Mapping[str, Any] | None = None, place: str = "") -> None:
    """Raises ``PisaError`` for a target outside the allow-list (see the top of this file).

    ``node`` is the mapping that names it, at ``place`` in the configuration; each of its keys must
    be an argument of the target.
    """
    if not target.startswith((f"{PACKAGE}.", *FOREIGN, *_plugins())):
        raise PisaError(_refusal(target))
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:  # whatever importing a plugin raises
        cause: BaseException = error
        while cause.__cause__ is not None:  # Hydra's own errors only say where
            cause = cause.__cause__
        what = f"{type(cause).__name__}: {reason(cause)}"
        raise PisaError(f"cannot import {target}: {what}") from error
    if not _may_be_built(target, found):
        raise PisaError(_refusal(target))
    if node is not None:
        _check_arguments(target, found, node, place)


def check_hydra(node: DictConfig) -> None:
    """Hydra's own part of a configuration builds Hydra's own objects and sets up no logging.

    Raises:
        PisaError: callbacks, launchers or log handlers from elsewhere.
    """
    settings = _resolvable(node)
    for _, holder in _holders(settings, "hydra"):
        target = str(holder["_target_"])
        if target != SWEEP_SUMMARY and not _HYDRAS_OWN.fullmatch(target):
            raise PisaError(f"hydra: _target_ {target!r} is not on the allow-list")
    for part in ("job_logging", "hydra_logging"):
        for _, inner in _parts(settings.get(part), ""):
            if isinstance(inner, Mapping) and any(key in _FACTORIES for key in inner):
                raise PisaError(f"hydra.{part} must not name classes or factories")


def _may_be_built(target: str, found: Any) -> bool:
    """Decided by the defining module: ``pisa.x.subprocess.run`` is not ours."""
    home = getattr(inspect.unwrap(found), "__module__", None) or ""
    root = target.partition(".")[0]
    if not (home == root or home.startswith(f"{root}.")):
        return False
    if root != PACKAGE:
        return True
    return inspect.isclass(found) or inspect.ismethod(found) or target.startswith(FUNCTIONS)


def _check_arguments(target: str, found: Any, node: Mapping[str, Any], place: str) -> None:
    arguments, open_ended = _arguments(found)
    values = {str(key): value for key, value in node.items() if key not in _OF_HYDRA}
    unknown = [key for key in values if not open_ended and key not in arguments]
    name = target.rpartition(".")[2]
    if unknown:
        names = ", ".join(sorted(arguments)) or "none"
        raise PisaError(f"{name} has no argument {unknown[0]!r}; valid: {names}")
    kinds = arguments | RANGES.get(target, {})
    for key, value in values.items():
        if key not in kinds or _is_built(value):
            continue
        wrong = problem(value, kinds[key])
        if wrong is not None:
            raise PisaError(f"{place or name}.{key} {wrong}")


def _is_built(value: Any) -> bool:
    """Whether Hydra makes an object of it."""
    return isinstance(value, Mapping) and "_target_" in value


@cache
def _arguments(found: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Annotations by name of argument, and whether any other name may be passed too.

    Through ``**options`` a class takes what the one above it in this package takes, and a
    constructor method of a dataclass its fields.
    """
    owner: Any = found if inspect.isclass(found) else getattr(found, "__self__", None)
    makers = [] if inspect.isclass(found) else [found]
    if inspect.isclass(found) or is_dataclass(owner):
        classes = [c for c in inspect.getmro(owner) if "__init__" in vars(c) and c is not object]
        makers += [vars(c)["__init__"] for c in classes]
    kinds: dict[str, Any] = {}
    for maker in makers:
        parameters = inspect.signature(maker).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                kinds.setdefault(parameter.name, _annotation(maker, parameter))
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            return _without_self(kinds), False
        if not inspect.unwrap(maker).__module__.startswith(f"{PACKAGE}."):
            break  # a library's **options go anywhere
    return _without_self(kinds), bool(makers)


def _without_self(kinds: dict[str, Any]) -> dict[str, Any]:
    return {name: kind for name, kind in kinds.items() if name != "self"}


def _annotation(maker: Any, parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter; ``Any`` where none can be evaluated at run time."""
    holder = SimpleNamespace(__annotations__={"x": parameter.annotation})
    space = vars(sys.modules[inspect.unwrap(maker).__module__])
    try:
        return get_type_hints(holder, globalns=dict(space), include_extras=True)["x"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any


def _plugins() -> tuple[str, ...]:
    names = (name.strip() for name in os.environ.get(PLUGINS, "").split(","))
    return tuple(f"{name}." for name in names if name)


def _refusal(target: str) -> str:
    module = target.rpartition(".")[0]
    return (
        f"_target_ {target!r} is not on the allow-list; if it is your own code, run with "
        f"{PLUGINS}={module or target}"
    )


def _parts(settings: Any, place: str) -> Iterator[tuple[str, Any]]:
    """All mappings, lists and values in plain settings, each with its place."""
    yield place, settings
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _parts(value, f"{place}.{key}" if place else str(key))
    elif isinstance(settings, list | tuple):
        for i, value in enumerate(settings):
            yield from _parts(value, f"{place}[{i}]")


def _holders(settings: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings in plain settings that have a ``_target_``, each with its place."""
    for where, part in _parts(settings, place):
        if isinstance(part, Mapping) and "_target_" in part:
            yield where, part


def _resolvable(node: Any) -> Any:
    """Plain containers of Hydra's configuration, without values that only a job resolves."""
    if not OmegaConf.is_config(node):
        return node
    is_dict = isinstance(node, DictConfig)
    found: dict[Any, Any] = {}
    for key in list(node) if is_dict else range(len(node)):
        with suppress(InterpolationResolutionError, MissingMandatoryValue):
            found[key] = _resolvable(node[key])
    return found if is_dict else list(found.values())
