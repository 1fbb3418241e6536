"""What a person has marked so far: plain data, read from and written to one JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pisa.annotate.crop import Crop
from pisa.annotate.motion import MAX_CLIP_S
from pisa.annotate.recording import FPS_HZ
from pisa.data.clip_files import check_name
from pisa.types import PisaError

SCHEMA = 1
MIN_FRAMES = 8
MAX_FRAMES = int(MAX_CLIP_S * FPS_HZ)


@dataclass(frozen=True)
class Click:
    """A point on an object (or, negative, beside it), in pixels of the recording as shown.

    ``frame`` counts from the clip's start; clicks after frame 0 are corrections.
    """

    frame: int
    x: float
    y: float
    positive: bool


@dataclass(frozen=True)
class ObjectDraft:
    """An object by clicks: on it, and beside it."""

    clicks: tuple[Click, ...] = ()


@dataclass(frozen=True)
class ClipDraft:
    """A clip in the making; frames are counted at ``FPS_HZ``, ``stop`` is the frame after it."""

    name: str
    recording: str
    start: int
    stop: int
    crop: Crop
    objects: tuple[ObjectDraft, ...] = (ObjectDraft(),)
    description: str = ""  # the caption is "{description} falls."
    scene: str = ""
    drop_height_m: float | None = None  # measured; gives the picture a scale

    @property
    def num_frames(self) -> int:
        return self.stop - self.start

    @property
    def caption(self) -> str:
        """As in the paper (Figure 12): "{description} falls." """
        return f"{self.description.strip().rstrip('.')} falls."


@dataclass(frozen=True)
class Change:
    """One edit of one clip: the fields it changed, before and after; None: there was no clip."""

    label: str
    clip: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass
class Project:
    """``version`` grows with every edit; ``touched`` says which one changed a field last."""

    version: int = 0
    next_clip: int = 1
    clips: dict[str, ClipDraft] = field(default_factory=dict)
    slowdown: dict[str, float] = field(default_factory=dict)  # recording: given by the person
    touched: dict[str, dict[str, int]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)


FIELDS = tuple(entry.name for entry in fields(ClipDraft))


def clip_to_json(clip: ClipDraft) -> dict[str, Any]:
    return asdict(clip)


def clip_from_json(record: Mapping[str, Any]) -> ClipDraft:
    """Raises ``PisaError`` for values no clip can have."""
    try:
        clip = ClipDraft(
            name=check_name(record["name"]),
            recording=str(record["recording"]),
            start=int(record["start"]),
            stop=int(record["stop"]),
            crop=Crop(**{key: int(record["crop"][key]) for key in ("left", "top", "side")}),
            objects=tuple(_object(entry) for entry in record["objects"]),
            description=str(record["description"]),
            scene=str(record["scene"]),
            drop_height_m=_optional(record["drop_height_m"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PisaError(f"a clip of the project is broken: {error!r:.100}") from error
    check_clip(clip)
    return clip


def check_clip(clip: ClipDraft) -> None:
    """Raises ``PisaError``, in words for the page."""
    if clip.start < 0 or clip.num_frames < MIN_FRAMES:
        raise PisaError(f"a clip has at least {MIN_FRAMES} frames; its end comes after its start")
    if clip.num_frames > MAX_FRAMES:
        raise PisaError(
            f"the clip is {clip.num_frames / FPS_HZ:.1f} s long; at most {MAX_CLIP_S:g} s "
            "(Appendix H)"
        )
    if clip.drop_height_m is not None and not 0 < clip.drop_height_m < 100:
        raise PisaError("the drop height is a length in metres, above 0")
    if not clip.objects:
        raise PisaError("a clip has at least one object")


def project_to_json(project: Project) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": project.version,
        "next_clip": project.next_clip,
        "clips": {key: clip_to_json(clip) for key, clip in project.clips.items()},
        "slowdown": project.slowdown,
        "touched": project.touched,
        "history": [asdict(change) for change in project.history],
    }


def project_from_json(record: Any) -> Project:
    """Raises ``PisaError`` for what is no project of this version."""
    try:
        if record["schema"] != SCHEMA:
            raise PisaError(f"has schema {record['schema']!r:.40}; this version reads {SCHEMA}")
        return Project(
            version=int(record["version"]),
            next_clip=int(record["next_clip"]),
            clips={str(k): clip_from_json(v) for k, v in record["clips"].items()},
            slowdown={str(k): float(v) for k, v in record["slowdown"].items()},
            touched={
                str(k): {str(f): int(n) for f, n in v.items()} for k, v in record["touched"].items()
            },
            history=[Change(**entry) for entry in record["history"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PisaError(f"is no project of annotate.py: {error!r:.100}") from error


def _object(record: Mapping[str, Any]) -> ObjectDraft:
    return ObjectDraft(
        tuple(
            Click(int(c["frame"]), float(c["x"]), float(c["y"]), bool(c["positive"]))
            for c in record["clicks"]
        )
    )


def _optional(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number
