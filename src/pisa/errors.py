"""The error that a user can act on. Imports nothing, so that the command line answers fast."""

from __future__ import annotations

from collections.abc import Sequence


class PisaError(Exception):
    """An error a user can act on; entry points print it as one line, without a traceback."""

    exit_code = 2


class IncompleteError(PisaError):
    """Some samples, clips or runs failed; the results of the others are written."""

    exit_code = 3


def reason(error: BaseException) -> str:
    """One line that says why ``error`` was raised."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(text.split())[:200]


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises ``PisaError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        allowed = ", ".join(str(choice) for choice in choices)
        raise PisaError(f"{name} must be one of {allowed}, not {value!r}")
