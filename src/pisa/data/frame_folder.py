"""A folder of numbered frames that stands for one video."""

from __future__ import annotations

import re
from pathlib import Path

from pisa.data.clip_info import number, read_info
from pisa.types import PisaError, reason

_NUMBERED = re.compile(r"(.*?)(\d+)(\.(?:png|jpe?g))", re.IGNORECASE)
_PREFERRED = ("rgba_", "")  # prefixes of the release's frames, before depth_, flow_ ...


def folder_frames(folder: Path) -> list[Path]:
    """Frames in order of their number, which may start anywhere but has no gaps.

    A folder may hold several series (``rgba_``, ``depth_`` ...): ``rgba_`` is taken, else the one
    without a prefix, else the only one. Raises ``PisaError`` for none, for gaps and for ambiguity.
    """
    series: dict[tuple[str, str], dict[int, Path]] = {}
    for path in _entries(folder):
        match = _NUMBERED.fullmatch(path.name)
        if match is not None:
            frames = series.setdefault((match[1], match[3].lower()), {})
            if int(match[2]) in frames:
                raise PisaError(f"{folder}: frame {int(match[2])} is there twice ({path.name})")
            frames[int(match[2])] = path
    if not series:
        raise PisaError(f"{folder}: holds no numbered frames (png or jpg)")
    numbered = series[_choose(folder, list(series))]
    first = min(numbered)
    gap = next((i for i in range(first, first + len(numbered)) if i not in numbered), None)
    if gap is not None:
        raise PisaError(f"{folder}: frame {gap} is missing")
    return [numbered[i] for i in sorted(numbered)]


def folder_rate_hz(folder: Path) -> float:
    """``fps`` of the folder's ``clip_info.json``; ``PisaError`` where there is none."""
    rate = number(read_info(folder), "fps", folder) if has_info(folder) else None
    if rate is None or rate <= 0:
        raise PisaError(f"{folder}: frames have no rate; set source.fps_hz (clip_info.json: fps)")
    return float(rate)


def has_info(folder: Path) -> bool:
    return (folder / "clip_info.json").is_file()


def holds_frames(folder: Path) -> bool:
    """Whether a folder has any numbered png or jpg."""
    return any(_NUMBERED.fullmatch(path.name) for path in _entries(folder))


def _choose(folder: Path, names: list[tuple[str, str]]) -> tuple[str, str]:
    for prefix in _PREFERRED:
        found = [name for name in names if name[0] == prefix]
        if len(found) == 1:
            return found[0]
    if len(names) > 1:
        listed = ", ".join(sorted(f"{prefix}0{suffix}" for prefix, suffix in names))
        raise PisaError(f"{folder}: holds several series of frames ({listed}); keep one")
    return names[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise PisaError(f"{folder}: cannot read folder: {reason(error)}") from error
