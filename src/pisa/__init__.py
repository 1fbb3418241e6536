"""Physics post-training of video diffusion models on falling objects (the PISA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pisa.launch.library import evaluate_videos, fetch, track

__version__ = "0.1.0"
__all__ = ["evaluate_videos", "fetch", "track"]


def __getattr__(name: str) -> Any:
    """The functions of ``__all__``, imported when they are used: they import torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pisa.launch import library

    return getattr(library, name)
