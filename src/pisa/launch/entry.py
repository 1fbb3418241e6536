"""Command-line entry: the configuration is checked first, and a user's mistake is one line."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pisa.launch.sweep import in_sweep, run_member
from pisa.launch.targets import check_hydra
from pisa.types import PisaError

EXIT_USER_ERROR = 2
FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")  # of Hydra
OTHER_CONFIGS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
EXIT_INTERRUPTED = 130
_LOST_LOADER = re.compile(r"DataLoader worker \(pid.* (is killed|exited)")  # how torch says it
_FROM_LOADER = re.compile(r"Caught \w+ in DataLoader worker process")


def entry_point(run: Callable[[DictConfig], None], config_dir: Path, config_name: str) -> None:
    """Run ``run`` under Hydra with the command line's overrides."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    start = hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)
    try:
        problem = _problem_of_overrides(config_dir, config_name)
        if problem is not None:
            _fail(problem)
        start(_reporting(run))()
    except KeyboardInterrupt:  # before or after the work
        _stop()


def _problem_of_overrides(config_dir: Path, config_name: str) -> str | None:
    """One line about an unknown experiment or override, or None.

    Of a sweep the first value of each override is looked at. Hydra itself imports and calls what
    its own part of the configuration names, so that is checked before it starts.
    """
    arguments = sys.argv[1:]
    if any(a.split("=")[0] in OTHER_CONFIGS for a in arguments):
        return "configurations of your own are added by hydra.searchpath=[file://FOLDER]"
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    stray = [
        a
        for before, a in zip(["", *arguments], arguments, strict=False)
        if "=" not in a and not a.startswith(("-", "~")) and before not in FLAGS_WITH_VALUE
    ]
    if stray:
        return f"what is {stray[0]!r}? Overrides have the form name=value"
    try:
        overrides = _first_of_sweeps(overrides)
        with hydra.initialize_config_dir(str(config_dir), version_base="1.3"):
            check_hydra(hydra.compose(config_name, overrides, return_hydra_config=True).hydra)
    except PisaError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _shorten(str(error), config_dir, config_name, overrides)
    return None


def _first_of_sweeps(overrides: list[str]) -> list[str]:
    """`a=1,2` as `a=1`; other overrides as they are."""
    parsed = zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True)
    return [
        f"{text.split('=')[0]}={next(override.sweep_string_iterator())}"
        if override.is_sweep_override()
        else text
        for text, override in parsed
    ]


def _shorten(message: str, config_dir: Path, config_name: str, overrides: list[str]) -> str:
    """Hydra's message on one line, with the valid names where a configuration was not found."""
    missing = re.search(r"(?:Could not find|Could not override) '([^']+)'", message)
    if missing and "/" in missing.group(1):
        group, _, name = missing.group(1).rpartition("/")
        valid = sorted(path.stem for path in (config_dir / group).glob("*.yaml"))
        return f"no {group} named {name!r}; valid: {', '.join(valid)}"
    key = re.search(r"Key '([^']+)' is not in struct", message)
    if missing:
        return _unknown_setting(missing.group(1), config_dir, config_name, overrides)
    if key:
        return f"unknown setting {key.group(1)!r}; see the names with --cfg job"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "; ".join(lines[:2])


def _unknown_setting(name: str, config_dir: Path, config_name: str, overrides: list[str]) -> str:
    """Names the settings beside an unknown one, as they are with the choices of groups made."""
    chosen = {o: o.lstrip("+").split("=")[0] for o in overrides}
    groups = [o for o, key in chosen.items() if key != name and (config_dir / key).is_dir()]
    with hydra.initialize_config_dir(str(config_dir), version_base="1.3"):
        node = hydra.compose(config_name, groups)
    *parents, last = name.split(".")
    for depth, part in enumerate(parents):
        inner = node.get(part)
        if not isinstance(inner, DictConfig):
            parents, last = parents[:depth], part
            break
        node = inner
    where = ".".join(parents) or "the configuration"
    return f"no setting {last!r} in {where}; valid: {', '.join(sorted(map(str, node)))}"


def _reporting(run: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    def reporting(cfg: DictConfig) -> None:
        try:
            if in_sweep():
                run_member(cfg, lambda cfg: _attempt(run, cfg)[0])
                return
            message, code = _attempt(run, cfg)
            if message is not None:
                _fail(message, code)
        except KeyboardInterrupt:
            _stop()

    return reporting


def _attempt(run: Callable[[DictConfig], None], cfg: DictConfig) -> tuple[str | None, int]:
    """Run it; what a user did wrong as one line, with the exit code."""
    try:
        run(cfg)
    except PisaError as error:
        return _line_of(error), getattr(error, "exit_code", EXIT_USER_ERROR)
    except InstantiationException as error:
        if not isinstance(error.__cause__, PisaError):
            raise
        return str(error.__cause__), EXIT_USER_ERROR
    except OmegaConfBaseException as error:
        message = f"{str(error).splitlines()[0]}; is an experiment missing? (experiment=NAME)"
        return message, EXIT_USER_ERROR
    except OSError as error:
        if error.errno is None:
            raise
        return f"{_place_of(error)}: {os.strerror(error.errno)}", EXIT_USER_ERROR
    except RuntimeError as error:
        if not _LOST_LOADER.match(str(error)):
            raise
        return "a process that loads clips was killed; the same command goes on", EXIT_USER_ERROR
    return None, 0


def _line_of(error: PisaError) -> str:
    """Its message; of one that a loader's worker sent, which is a traceback, the last line."""
    text = str(error).strip()
    if not _FROM_LOADER.match(text):
        return text
    return text.splitlines()[-1].partition(": ")[2]


def _place_of(error: OSError) -> str:
    """What the error is about; of a full disk the folder, since its file is often temporary."""
    if error.filename is None:
        return "the file system"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return str(Path(os.fsdecode(error.filename)).parent if full else error.filename)


def _stop() -> None:
    print("stopped; the same command goes on from here", file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)  # loader and simulation workers must not hold the exit


def _as_interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int = EXIT_USER_ERROR) -> None:
    first = " ".join(message.split())
    print(f"error: {first}", file=sys.stderr)
    raise SystemExit(code)
