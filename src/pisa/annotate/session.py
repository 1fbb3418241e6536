"""State and actions of one tab of the page, without a user interface.

Frames are counted at 120 Hz from the start of the recording. Every edit names the version of the
project that this tab has shown (``pisa.annotate.store``). What cannot be done raises ``PisaError``
with a sentence for the page.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import StrEnum
from typing import Any

import numpy as np

from pisa.annotate.checks import late_frames
from pisa.annotate.motion import Crop, check_inside
from pisa.annotate.recording import Recording
from pisa.annotate.store import Click, ClipDraft, ObjectDraft, Project, check_clip
from pisa.annotate.workspace import Workspace
from pisa.errors import PisaError


class Mode(StrEnum):
    """The steps of a clip, in order."""

    CUT = "cut"
    CROP = "crop"
    POINTS = "points"
    CHECK = "check"


class Session:
    """State of one tab: recording, clip, object, frame; and the project, which is stored."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.project: Project = workspace.store.read()
        self.recording: Recording | None = None
        self.key: str | None = None
        self.frame = 0
        self.mode = Mode.CUT
        self.object = 0
        self.draft_crop: Crop | None = None  # while it is dragged

    @property
    def clip(self) -> ClipDraft | None:
        return self.project.clips.get(self.key or "")

    @property
    def clips(self) -> dict[str, ClipDraft]:
        """Clips of the recording on show, by their start."""
        name = self.recording.path.name if self.recording else ""
        found = [(k, c) for k, c in self.project.clips.items() if c.recording == name]
        return dict(sorted(found, key=lambda entry: (entry[1].start, entry[0])))

    @property
    def crop(self) -> Crop | None:
        return self.draft_crop or (self.clip.crop if self.clip else None)

    def need_clip(self) -> ClipDraft:
        if self.clip is None:
            raise PisaError("choose or mark a clip first (M marks one at this frame)")
        return self.clip

    def need_recording(self) -> Recording:
        if self.recording is None:
            raise PisaError("choose a recording first")
        return self.recording

    def show(self, recording: Recording) -> None:
        self.recording, self.key, self.frame, self.mode = recording, None, 0, Mode.CUT
        self.project = self.workspace.store.read()
        releases = self.workspace.releases(recording.path.name)
        self.frame = releases[0].start if releases else 0

    def changed_elsewhere(self) -> str:
        """Take over what other tabs did since; a sentence about it, empty where nothing changed."""
        newest = self.workspace.store.read()
        if newest.version == self.project.version:
            return ""
        self._take(newest)
        last = f": {newest.history[-1].label}" if newest.history else ""
        return f"changed in another tab{last}"

    def choose(self, key: str) -> None:
        """Show a clip of the recording."""
        self.key, self.object, self.draft_crop = key, 0, None
        self.frame = self.need_clip().start

    def next_clip(self, by: int) -> None:
        keys = list(self.clips)
        if not keys:
            raise PisaError("no clip is marked yet (M marks one at this frame)")
        index = keys.index(self.key) + by if self.key in keys else 0
        self.choose(keys[index % len(keys)])

    def go(self, mode: Mode) -> None:
        """Change the step; all but the first need a clip."""
        if mode is not Mode.CUT:
            clip = self.need_clip()
            inside = clip.start <= self.frame < clip.stop
            self.frame = self.frame if inside and mode is not Mode.POINTS else clip.start
        self.mode = mode

    def step(self, by: int) -> None:
        self.seek(self.frame + by)

    def seek(self, frame: int) -> None:
        """Within the clip where its own frames are on show, else within the recording."""
        first, stop = 0, self.need_recording().num_frames
        if self.mode in (Mode.POINTS, Mode.CHECK) and self.clip:
            first, stop = self.clip.start, self.clip.stop
        self.frame = min(max(frame, first), stop - 1)

    def next_release(self, by: int) -> None:
        starts = [r.start for r in self.workspace.releases(self.need_recording().path.name)]
        if by > 0:
            found = [s for s in starts if s > self.frame]
        else:
            found = [s for s in reversed(starts) if s < self.frame]
        if not found:
            raise PisaError("no release moment was found there; look yourself")
        self.frame = found[0]

    def mark(self) -> None:
        """A new clip from this frame; to the end of the motion where a release lies here."""
        name = self.need_recording().path.name
        near = [r for r in self.workspace.releases(name) if abs(r.start - self.frame) <= 24]
        key = self.workspace.new_clip(name, self.frame, near[0].stop if near else None)
        self._take(self.workspace.store.read())
        self.key = key

    def set_start(self, frame: int | None = None) -> None:
        """Begin the clip at ``frame``; None: the one on show."""
        clip = self.need_clip()
        frame = self.frame if frame is None else frame
        self._edit({"start": frame}, replace(clip, start=frame), "start")

    def set_stop(self) -> None:
        clip = self.need_clip()
        self._edit({"stop": self.frame + 1}, replace(clip, stop=self.frame + 1), "end")

    def fix_start(self) -> int:
        """Move the start to where the fall's parabola begins; by how many frames."""
        clip = self.need_clip()
        by = late_frames(self.workspace.evidence(clip))
        if not by:
            raise PisaError("the start is right already" if by == 0 else "no fall is seen")
        self.set_start(max(0, clip.start + by))
        self.frame = self.need_clip().start
        return by

    def set_crop(self, crop: Crop) -> None:
        self.draft_crop = None
        check_inside(crop, self.need_recording().size)
        self._edit({"crop": asdict(crop)}, replace(self.need_clip(), crop=crop), "crop")

    def describe(self, name: str, value: Any) -> None:
        """``description``, ``scene`` or ``drop_height_m``."""
        clip = replace(self.need_clip(), **{name: value})
        self._edit({name: value}, clip, name.replace("_m", "").replace("_", " "))

    def click(self, x: float, y: float, positive: bool) -> None:
        """A point of the chosen object in this frame, in pixels of the recording."""
        clip = self.need_clip()
        crop = clip.crop
        if not (crop.left <= x < crop.left + crop.side and crop.top <= y < crop.top + crop.side):
            raise PisaError("that point lies outside of the crop")
        added = Click(self.frame - clip.start, round(x, 2), round(y, 2), positive)
        self._set_clicks((*clip.objects[self.object].clicks, added), "points")

    def unclick(self) -> None:
        """Take away the chosen object's newest point in this frame."""
        clip = self.need_clip()
        clicks = clip.objects[self.object].clicks
        here = [i for i, c in enumerate(clicks) if c.frame == self.frame - clip.start]
        if not here:
            raise PisaError(f"object {self.object + 1} has no point in this frame")
        self._set_clicks(clicks[: here[-1]] + clicks[here[-1] + 1 :], "points")

    def add_object(self) -> None:
        objects = (*self.need_clip().objects, ObjectDraft())
        self._set_objects(objects, "objects")
        self.object = len(objects) - 1

    def remove_object(self) -> None:
        objects = self.need_clip().objects
        if len(objects) == 1:
            raise PisaError("a clip has at least one object")
        self._set_objects(objects[: self.object] + objects[self.object + 1 :], "objects")

    def next_object(self, by: int) -> None:
        self.object = (self.object + by) % len(self.need_clip().objects)

    def remove_clip(self) -> None:
        self.need_clip()
        self._take(self.workspace.store.remove(str(self.key), self.project.version))
        self.mode = Mode.CUT

    def undo(self) -> str:
        """Take back the last edit of the clip on show (none on show: of any); what it was."""
        project, label = self.workspace.store.undo(self.key)
        self._take(project)
        return label

    def set_fps(self, fps_hz: float) -> None:
        """Set or confirm at how many frames per second the recording was captured."""
        recording = self.need_recording()
        stored = 1 / float(np.median(np.diff(recording.times_s)))
        slowdown, now = fps_hz / stored, recording.slowdown
        if abs(slowdown / now - 1) < 0.01:  # the page shows whole numbers
            slowdown = now
        store = self.workspace.store
        self._take(store.set_slowdown(recording.path.name, slowdown, now))
        opened = self.workspace.open(recording.path.name)
        if slowdown == now:
            self.recording = opened
            self.workspace.evidence.cache_clear()
        else:
            self.show(opened)

    def _set_clicks(self, clicks: tuple[Click, ...], label: str) -> None:
        objects = list(self.need_clip().objects)
        objects[self.object] = ObjectDraft(clicks)
        self._set_objects(tuple(objects), label)

    def _set_objects(self, objects: tuple[ObjectDraft, ...], label: str) -> None:
        changed = [asdict(entry) for entry in objects]
        self._edit({"objects": changed}, replace(self.need_clip(), objects=objects), label)

    def _edit(self, changes: dict[str, Any], clip: ClipDraft, label: str) -> None:
        if clip == self.clip:
            return  # a field was left as it was
        check_clip(clip)
        if clip.stop > self.need_recording().num_frames:
            raise PisaError("the clip would end after the recording")
        store = self.workspace.store
        self._take(store.edit(str(self.key), changes, self.project.version, label))

    def _take(self, project: Project) -> None:
        self.project = project
        if self.clip is None:
            self.key, self.mode = None, Mode.CUT
        else:
            self.object = min(self.object, len(self.clip.objects) - 1)
