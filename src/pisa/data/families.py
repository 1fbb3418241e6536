"""Clips that share their first frame (paper Appendix F), as the simulator records them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pisa.data.clip_files import read_masks
from pisa.data.clip_info import read_info
from pisa.data.manifest import list_clips
from pisa.types import PisaError

MAX_DIFFERENT = 0.01  # share of the object's pixels in frame 0


def study_of(clip: Path, kind: str) -> Mapping[str, Any]:
    """What the simulator recorded for the analyses of section 5 under ``study``.

    Raises ``PisaError`` where the clip is of another kind of data set.
    """
    study = read_info(clip).get("study")
    if not isinstance(study, dict) or study.get("kind") != kind:
        raise PisaError(f"{clip}: is no clip of the {kind!r} kind; simulate.py makes such sets")
    return study


def check_families(folder: Path) -> None:
    """Compare the clips of the first family.

    Raises:
        PisaError: the set is of another kind, or their first masks differ.
    """
    clips = list_clips(folder)
    group = study_of(clips[0], "ambiguous")["group"]
    first = read_masks(clips[0])[0, -1]
    for clip in clips[1:]:
        if study_of(clip, "ambiguous")["group"] != group:
            return
        differing = (read_masks(clip)[0, -1] != first).sum()
        if differing > MAX_DIFFERENT * first.sum():
            raise PisaError(f"{clip}: its first frame is not that of {clips[0].name}")
