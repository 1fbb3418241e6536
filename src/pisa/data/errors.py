"""How readers say what went wrong."""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(text.split())[:200]
