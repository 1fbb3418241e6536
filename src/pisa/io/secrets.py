"""Nothing secret leaves the machine: what is logged or published goes through ``redacted``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MARK = "[redacted]"
_SECRET_NAME = re.compile(
    r"(^|[_.\- ])(api[_-]?key|access[_-]?key|private[_-]?key|token|secret|password|passwd|"
    r"credentials?|authorization|auth)($|[_.\- ])",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|sk-[A-Za-z0-9_-]{16,}"
    r"|AKIA[A-Z0-9]{16}"
    r"|wandb_v1_[A-Za-z0-9_]{16,}"  # W&B; its older keys look like git commits
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
)
_URL_PASSWORD = re.compile(r"(?<=://)[^/\s:@]+(:[^/\s@]*)?@")
_MIN_LENGTH = 6  # of a value in the environment that is searched for elsewhere


def redacted(value: Any, environ: Mapping[str, str] = os.environ) -> Any:
    """A copy of plain containers and strings in which every secret is replaced by ``MARK``.

    Secret is what stands under a name such as ``token`` or ``api_key``, what looks like a key of a
    known service, a password in an address, and any value of a variable in the environment that
    has such a name, wherever it turns up.
    """
    return _redacted(value, secret_values(environ))


def secret_values(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Values of the environment that must not be seen, the longest first."""
    found = {
        value.strip()
        for name, value in environ.items()
        if _SECRET_NAME.search(name) and len(value.strip()) >= _MIN_LENGTH
    }
    return sorted(found, key=len, reverse=True)


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            _text(key, secrets) if isinstance(key, str) else key: MARK
            if isinstance(key, str) and _SECRET_NAME.search(key) and _is_filled(inner)
            else _redacted(inner, secrets)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(inner, secrets) for inner in value]
    return _text(value, secrets) if isinstance(value, str) else value


def _is_filled(value: Any) -> bool:
    """Numbers and switches are no secrets (`max_token: 512`), an interpolation names none."""
    return isinstance(value, str) and bool(value) and not value.startswith("${")


def _text(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MARK)
    return _URL_PASSWORD.sub(f"{MARK}@", _SECRET_VALUE.sub(MARK, text))
