"""Command-line entry: mistakes are answered in one line, before torch is imported.

Hydra composes a configuration in half a second; torch and lightning take 30 times as long to
import. So this module, and all that it imports at the top, imports neither.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pisa.errors import PisaError, reason

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = _PACKAGE.parents[1] / "configs"  # of a checkout
if not (CONFIGS / "train.yaml").is_file():
    CONFIGS = _PACKAGE / "configs"  # of an installed wheel
EXIT_INTERRUPTED = 130
FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i")  # of Hydra
OTHER_CONFIGS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
SWEEP_FLAGS = ("--multirun", "-m")
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own variable; set to 1, tracebacks are kept
_LISTS = ("callbacks", "logger", "scenario")  # groups of which several, or none, are chosen
_NO_NAME = "Config group override must be a string or a list"  # Hydra's words
_LOST_LOADER = re.compile(r"DataLoader worker \(pid.* (is killed|exited)")  # torch's words
_FROM_RESOLVER = "PisaError raised while resolving interpolation: "  # OmegaConf's words
_FROM_LOADER = re.compile(r"Caught \w+ in DataLoader worker process")
_VALUE_ERRORS = ("ValueError", "TypeError", "ZeroDivisionError", "MisconfigurationException")


def entry_point(run: Callable[[DictConfig], None], config_name: str, help_text: str) -> None:
    """Run ``run`` under Hydra with the command line's overrides.

    ``run`` imports what it needs when it is called. ``help_text`` comes first in ``--help``.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    start = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)
    arguments = sys.argv[1:]
    try:
        message = mistake_in(arguments, config_name)
        if message is not None:
            _fail(message)
        if "--help" in arguments or "-h" in arguments:
            print(help_text.strip())
        start(_reporting(run))()
        _leave_process_group()
    except KeyboardInterrupt:  # before or after the work
        _stop()


def mistake_in(arguments: Sequence[str], config_name: str) -> str | None:
    """One line about a wrong argument, experiment or setting; None if all are right.

    For sweeps, only the first value of each override is checked. Hydra imports and calls what its
    own part of the configuration names, so that part is checked before Hydra starts.
    """
    from pisa.launch.targets import check_hydra

    if any(a.split("=")[0] in OTHER_CONFIGS for a in arguments):
        return "your own configurations are added by hydra.searchpath=[file://FOLDER]"
    for before, argument in zip(["", *arguments], arguments, strict=False):
        of_a_flag = before in FLAGS_WITH_VALUE
        if "=" not in argument and not argument.startswith(("-", "~")) and not of_a_flag:
            return f"{argument!r} is not an override; these have the form name=value"
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    try:
        first_values = [_first_value(text) for text in overrides]
        absent = [folder for folder in _searched(first_values) if not folder.is_dir()]
        if absent:
            return f"hydra.searchpath: there is no folder {absent[0]}"
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = hydra.compose(config_name, first_values, return_hydra_config=True)
        check_hydra(cfg.hydra)
    except PisaError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _shorten(str(error), config_name, first_values)
    except ValueError as error:
        message = without_a_name(error, first_values)
        if message is None:
            raise
        return message
    except yaml.YAMLError as error:
        return f"a configuration file is not valid YAML: {reason(error)}"
    swept = [text for text, first in zip(overrides, first_values, strict=True) if text != first]
    flags = [a for a in arguments if a.startswith("-")]
    sweeps = cfg.hydra.mode == RunMode.MULTIRUN or any(a in SWEEP_FLAGS for a in flags)
    if swept and not sweeps:
        key, _, value = swept[0].partition("=")
        return (
            f"{swept[0]} names several values, which is a sweep: add -m; "
            f"for one value that holds a comma, write {quoted(key, value)}"
        )
    if not flags and not sweeps and OmegaConf.is_missing(cfg, "name"):
        return f"experiment=NAME is missing; valid: {_choices('experiment', first_values)}"
    return None


def _first_value(text: str) -> str:
    """The override as it is; of a sweep (`a=1,2`), its first value (`a=1`).

    Raises:
        PisaError: Hydra's grammar cannot read it, with the quoted form to write instead.
    """
    parser = OverridesParser.create()
    key, _, value = text.partition("=")
    try:
        override = parser.parse_override(text)
    except HydraException as error:
        hint = quoted(key, value)
        if hint is None or (value.startswith(("[", "{")) and "/" not in value):
            raise PisaError(f"cannot read {text}: {str(error).splitlines()[0]}") from error
        raise PisaError(
            f"{text} holds a character that has a meaning in Hydra's grammar; write {hint}"
        ) from error
    if not override.is_sweep_override():
        return text
    return f"{key}={next(override.sweep_string_iterator())}"


def quoted(key: str, value: str) -> str | None:
    """``key=value``, quoted for the shell and for Hydra, so that ``value`` arrives as it is.

    A leading ``~`` is expanded, which the shell does not do inside quotes. None where no quoting
    works, as with a key that is wrong itself.
    """
    value = os.path.expanduser(value)
    for mark in ("'", '"'):
        text = f"{key}={mark}{value.replace(mark, chr(92) + mark)}{mark}"
        try:
            read = OverridesParser.create().parse_override(text).value()
        except HydraException:
            continue
        if str(read) == value:
            plain = not any(character in text for character in '"$`\\!')  # for the shell
            return f'"{text}"' if plain else shlex.quote(text)
    return None


def _shorten(message: str, config_name: str, overrides: list[str]) -> str:
    """Hydra's message on one line, with the valid names where a configuration was not found."""
    missing = re.search(r"Could not (?:find|override|load) '([^']+)'", message)
    if missing and "/" in missing.group(1):
        group, _, name = missing.group(1).rpartition("/")
        return f"no {group} named {name!r}; valid: {_choices(group, overrides)}"
    if missing:
        return _unknown_setting(missing.group(1), config_name, overrides)
    key = re.search(r"Key '([^']+)' is not in struct", message)
    if key:
        return f"unknown setting {key.group(1)!r}; --cfg job lists all settings"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "; ".join(lines[:2])


def without_a_name(error: ValueError, overrides: Sequence[str]) -> str | None:
    """A line about the override that gives a group a value that is no name; None of other errors.

    Hydra raises a plain ``ValueError`` for it.
    """
    for text in overrides if str(error).startswith(_NO_NAME) else ():
        value = OverridesParser.create().parse_override(text).value()
        group = text.lstrip("+").partition("=")[0].partition("@")[0]
        if (CONFIGS / group).is_dir() and not isinstance(value, (str, list)):
            none = f"; none: {group}=[]" if group in _LISTS else ""
            return f"{text}: {group} takes a name; valid: {_choices(group, overrides)}{none}"
    return None


def _choices(group: str, overrides: Sequence[str]) -> str:
    folders = (folder / group for folder in (CONFIGS, *_searched(overrides)))
    return ", ".join(sorted({path.stem for f in folders for path in f.glob("*.yaml")}))


def _searched(overrides: Sequence[str]) -> list[Path]:
    """The folders that ``hydra.searchpath`` adds to the project's own."""
    given = [text for text in overrides if text.partition("=")[0] == "hydra.searchpath"]
    values = OverridesParser.create().parse_override(given[-1]).value() if given else None
    places = map(str, values if isinstance(values, list) else [])
    return [Path(p.removeprefix("file://")) for p in places if not p.startswith("pkg://")]


def _unknown_setting(name: str, config_name: str, overrides: list[str]) -> str:
    """Lists the settings beside an unknown one, with the command line's choices of groups made."""
    chosen = {o: o.lstrip("+").split("=")[0] for o in overrides}
    groups = [o for o, key in chosen.items() if key != name and (CONFIGS / key).is_dir()]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
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
            if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
                from pisa.launch.sweep import run_member

                run_member(cfg, lambda cfg: _attempt(run, cfg)[0])
                return
            message, code = _attempt(run, cfg)
            if message is not None:
                _fail(message, code)
        except KeyboardInterrupt:
            _stop()

    return reporting


def _attempt(run: Callable[[DictConfig], None], cfg: DictConfig) -> tuple[str | None, int]:
    """Run it; returns a user's mistake as one line, with the exit code."""
    try:
        run(cfg)
    except PisaError as error:
        return _line_of(error), error.exit_code
    except InstantiationException as error:
        message = _message_of_value(error)
        if message is None or os.environ.get(FULL_ERROR) == "1":
            raise
        return message, PisaError.exit_code
    except OmegaConfBaseException as error:
        line = str(error).splitlines()[0]
        return line.removeprefix(_FROM_RESOLVER), PisaError.exit_code
    except OSError as error:
        if error.errno is None:
            raise
        return f"{_path_of(error)}: {os.strerror(error.errno)}", PisaError.exit_code
    except RuntimeError as error:
        if not _LOST_LOADER.match(str(error)):
            raise
        return (
            "a process that loads clips was killed (often for memory: lower data.num_workers); "
            "the same command resumes",
            PisaError.exit_code,
        )
    return None, 0


def _message_of_value(error: InstantiationException) -> str | None:
    """A value that a constructor refused and no check before it, with the setting's name.

    None where the cause is not a refused value, and the traceback is needed.
    """
    cause = error.__cause__
    if isinstance(cause, PisaError):
        return str(cause)
    if cause is None or type(cause).__name__ not in _VALUE_ERRORS:
        return None
    key = re.search(r"full_key: (\S+)", str(error))
    where = f"{key.group(1)}: " if key else ""
    return f"{where}{reason(cause)} ({FULL_ERROR}=1 shows where)"


def _line_of(error: PisaError) -> str:
    """Its message; of one sent by a loader's worker, which is a traceback, the last line."""
    text = str(error).strip()
    if not _FROM_LOADER.match(text):
        return text
    return text.splitlines()[-1].partition(": ")[2]


def _path_of(error: OSError) -> str:
    """The file of the error; of a full disk the folder, since the file is often temporary."""
    if error.filename is None:
        return "the file system"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return str(Path(os.fsdecode(error.filename)).parent if full else error.filename)


def _stop() -> None:
    print("stopped; the same command resumes from here", file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)  # loader and simulation workers must not hold the exit


def _leave_process_group() -> None:
    """Ends torch's process group, if there is one, while Python is whole.

    Threads of gloo may hold tensors; where these are freed as Python ends, the process aborts
    (SIGABRT) although its work is done.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _as_interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int = PisaError.exit_code) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
