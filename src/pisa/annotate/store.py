"""The project file: every edit is written at once, whole, and can be taken back.

Two tabs, or two processes, may work on one project. An edit names the version that its person saw;
where somebody else has changed the same field of the same clip since, it is refused with a sentence
that says so, and nothing is lost silently. Edits of different fields or clips are both kept.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pisa.annotate.motion import MAX_CLIP_S, Crop
from pisa.annotate.recording import FPS_HZ
from pisa.data.clip_info import check_name
from pisa.errors import PisaError, reason
from pisa.io.files import write_atomic

MAX_HISTORY = 300


class ConflictError(PisaError):
    """The edit was not applied: the same thing was changed elsewhere meanwhile."""


class ProjectStore:
    """The project in ``path``; the file is locked while an edit is read, checked and written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: tuple[tuple[int, int, int], Project] | None = None

    def read(self) -> Project:
        """The project as it is on disk, not to be changed. Raises ``PisaError`` for a broken file.

        It is parsed again only when the file has become another.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return Project()
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        last = self._last
        if last is None or last[0] != mark:
            last = self._last = (mark, self._parse())
        return last[1]

    def _parse(self) -> Project:
        try:
            return project_from_json(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Project()
        except (OSError, ValueError, RecursionError) as error:
            raise PisaError(f"{self.path}: cannot read: {reason(error)}") from error
        except PisaError as error:
            raise PisaError(f"{self.path}: {error}") from error

    def add(self, clip: ClipDraft) -> tuple[Project, str]:
        """The project with one more clip, and the clip's key."""
        with self._edited() as project:
            key = f"c{project.next_clip}"
            project.next_clip += 1
            if any(other.name == clip.name for other in project.clips.values()):
                raise ConflictError(f"there is a clip named {clip.name} already")
            self._record(project, f"new clip {clip.name}", key, None, asdict(clip))
        return project, key

    def edit(self, key: str, changes: Mapping[str, Any], seen: int, label: str) -> Project:
        """``changes``: fields of ``ClipDraft`` with their new values as in JSON."""
        with self._edited() as project:
            clip = _clip(project, key)
            old = asdict(clip)
            new = {name: value for name, value in changes.items() if old[name] != value}
            _refuse_stale(project, key, new, seen, clip.name)
            if new:
                before = {name: old[name] for name in new}
                self._record(project, f"{label} of {clip.name}", key, before, new)
        return project

    def remove(self, key: str, seen: int) -> Project:
        with self._edited() as project:
            clip = _clip(project, key)
            _refuse_stale(project, key, FIELDS, seen, clip.name)
            self._record(project, f"removal of {clip.name}", key, asdict(clip), None)
        return project

    def undo(self, key: str | None) -> tuple[Project, str]:
        """Take back the last edit of a clip (None: of any clip); what it was.

        Raises ``PisaError`` where there is nothing to take back.
        """
        with self._edited() as project:
            found = [n for n, c in enumerate(project.history) if key in (None, c.clip)]
            if not found:
                raise PisaError("there is nothing to undo")
            change = project.history.pop(found[-1])
            _apply(project, change.clip, change.after, change.before)
        return project, change.label

    def set_slowdown(self, recording: str, slowdown: float, counted_at: float) -> Project:
        """How much slower than life a recording plays, as the user says.

        Once it has clips, their frames are counted at that rate: it can only be confirmed.
        """
        if not 0.05 <= slowdown <= 100:
            raise PisaError("the frame rate must be 0.05 to 100 times the file's own")
        with self._edited() as project:
            has_clips = any(clip.recording == recording for clip in project.clips.values())
            if has_clips and not math.isclose(slowdown, counted_at, rel_tol=0.01):
                raise PisaError("the frame rate is fixed once a recording has clips")
            project.slowdown[recording] = slowdown
        return project

    def _record(
        self,
        project: Project,
        label: str,
        key: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        _apply(project, key, before, after)
        project.history = [*project.history, Change(label, key, before, after)][-MAX_HISTORY:]

    @contextmanager
    def _edited(self) -> Iterator[Project]:
        """The newest project, alone; written when the body succeeds."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with (self.path.parent / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                project = self._parse()
                project.version += 1
                yield project
                text = json.dumps(project_to_json(project), indent=1)
                write_atomic(self.path, text.encode())
        except OSError as error:
            raise PisaError(f"cannot write {self.path}: {reason(error)}") from error


def _clip(project: Project, key: str) -> ClipDraft:
    if key not in project.clips:
        raise ConflictError("this clip was removed in another tab; undo there brings it back")
    return project.clips[key]


def _refuse_stale(project: Project, key: str, names: Any, seen: int, clip: str) -> None:
    touched = project.touched.get(key, {})
    stale = [name for name in names if touched.get(name, 0) > seen]
    if stale:
        raise ConflictError(
            f"{', '.join(stale)} of {clip} changed in another tab meanwhile: your edit was not "
            "applied; look at the new state and repeat it"
        )


def _apply(
    project: Project, key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> None:
    """Bring a clip from ``before`` to ``after`` and note which fields that touched."""
    if after is None:
        project.clips.pop(key, None)
    elif before is None:
        project.clips[key] = clip_from_json(after)
    else:
        project.clips[key] = clip_from_json({**asdict(project.clips[key]), **after})
    names = FIELDS if before is None or after is None else after
    touched = project.touched.setdefault(key, {})
    touched |= {name: project.version for name in names}


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


def clip_from_json(record: Mapping[str, Any]) -> ClipDraft:
    """Raises ``PisaError`` for values no clip can have."""
    try:
        objects = tuple(
            ObjectDraft(tuple(_click(click) for click in entry["clicks"]))
            for entry in record["objects"]
        )
        crop = Crop(**{side: int(value) for side, value in record["crop"].items()})
        ends = {end: int(record[end]) for end in ("start", "stop")}
        clip = ClipDraft(**{**record, **ends, "crop": crop, "objects": objects})
        check_name(clip.name)
        check_clip(clip)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PisaError(f"a clip of the project is broken: {error!r:.100}") from error
    return clip


def _click(record: Mapping[str, Any]) -> Click:
    x, y = float(record["x"]), float(record["y"])
    return Click(int(record["frame"]), x, y, bool(record["positive"]))


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
    return {"schema": SCHEMA, **asdict(project)}


def project_from_json(record: Any) -> Project:
    """Raises ``PisaError`` for anything but a project of this version."""
    try:
        if record["schema"] != SCHEMA:
            raise PisaError(f"has schema {record['schema']!r:.40}; this version reads {SCHEMA}")
        return Project(
            version=int(record["version"]),
            next_clip=int(record["next_clip"]),
            clips={key: clip_from_json(clip) for key, clip in record["clips"].items()},
            slowdown={name: float(factor) for name, factor in record["slowdown"].items()},
            touched={key: dict(changes) for key, changes in record["touched"].items()},
            history=[Change(**entry) for entry in record["history"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PisaError(f"is not a project of annotate.py: {error!r:.100}") from error
