"""One folder of recordings: what the page does with it, without the page.

Recordings are only read. Clips are written beside them, so that the folder itself is a benchmark;
everything else lies in ``.annotate`` and can be deleted when all clips are saved (``project.json``
in it holds what was marked).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from pisa.annotate.checks import Check, Evidence, run_checks
from pisa.annotate.clip_folder import clip_info, export_clip, frames_digest, prepare_frames
from pisa.annotate.motion import Crop, Release, find_releases, motion_signal, moving_area, suggest
from pisa.annotate.recording import Progress, Recording, import_recording
from pisa.annotate.store import MAX_FRAMES, MIN_FRAMES, ClipDraft, ProjectStore
from pisa.annotate.tracking import ClipTracker
from pisa.data.image_files import frame_paths, read_frames
from pisa.data.mask_files import resize_masks
from pisa.data.video_files import VIDEO_SUFFIXES
from pisa.errors import PisaError
from pisa.perception.mask_cache import read_masks, write_masks

CHECKED_PX = 128  # side of the frames that checks look at


class Workspace:
    """``size_px``: largest side of the clips' frames (None: the crop's own).

    ``make_tracker`` is called when a tracker is first needed.
    """

    def __init__(
        self, root: Path, make_tracker: Callable[[], ClipTracker], size_px: int | None = 512
    ) -> None:
        self.root = root.resolve()
        if not self.root.is_dir():
            raise PisaError(f"{root}: is not a folder")
        self.work = self.root / ".annotate"
        self.size_px = size_px
        self.store = ProjectStore(self.work / "project.json")
        self.tracker = lru_cache(maxsize=1)(make_tracker)
        self.evidence = lru_cache(maxsize=4)(self._evidence)
        self._read_masks = lru_cache(maxsize=4)(read_masks)
        self._signals: dict[tuple[Path, float], np.ndarray] = {}
        self._releases: dict[tuple[Path, float], list[Release]] = {}
        self._opened: dict[str, Recording] = {}

    def recordings(self) -> list[str]:
        """Names of the video files in the folder, in order."""
        return sorted(
            p.name
            for p in self.root.iterdir()
            if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".") and p.is_file()
        )

    def recording_path(self, name: str) -> Path:
        """Raises ``PisaError`` for what lies outside of the folder, links included."""
        path = (self.root / name).resolve()
        if path.parent != self.root:
            raise PisaError(f"{name}: lies outside of {self.root}; refused")
        if not path.is_file():
            raise PisaError(f"{name}: there is no such recording in {self.root}")
        return path

    def open(self, name: str, progress: Progress = lambda _: None) -> Recording:
        """The recording, read in full the first time. Raises ``PisaError`` for a broken file."""
        path = self.recording_path(name)
        status = path.stat()
        mark = f"{name} {status.st_size} {status.st_mtime_ns}"
        folder = self.work / "recordings" / hashlib.sha256(mark.encode()).hexdigest()[:16]
        opened = self._opened.get(name)
        if opened is None or opened.pack.parent != folder:
            opened = import_recording(path, folder, progress)
        given = self.store.read().slowdown.get(name)
        if given is not None and not (opened.rate_known and given == opened.slowdown):
            opened = replace(opened, slowdown=given, rate_known=True)
        self._opened[name] = opened
        return opened

    def is_open(self, name: str) -> bool:
        return name in self._opened

    def releases(self, name: str) -> list[Release]:
        """Suggested clips of a recording."""
        recording = self.open(name)
        key = (recording.pack, recording.slowdown)
        if key not in self._releases:
            self._releases[key] = find_releases(recording.grid[recording.index])
        return self._releases[key]

    def new_clip(self, name: str, start: int, stop: int | None = None) -> str:
        """Mark a clip; its crop goes around what moves in it. Returns its key."""
        recording = self.open(name)
        stop = min(start + MAX_FRAMES, recording.num_frames, stop or start + 240)
        if stop - start < MIN_FRAMES:
            raise PisaError("too near to the recording's end for a clip")
        draft = ClipDraft(
            self._free_name(name),
            name,
            start,
            stop,
            suggest(moving_area(self._grid(recording, start, stop)), recording.size),
        )
        return self.store.add(draft)[1]

    def frames(self, clip: ClipDraft, progress: Progress = lambda _: None) -> Path:
        """The clip's frames, made where they are not there yet."""
        recording = self.open(clip.recording)
        folder = self._frames_folder(clip)
        return prepare_frames(recording, clip, folder, self.size_px, progress)

    def signal(self, name: str) -> np.ndarray:
        """Motion at every frame of a recording (``motion_signal``)."""
        return self._signal(self.open(name))

    def suggested_crop(self, clip: ClipDraft) -> Crop:
        """A crop around what moves in the clip."""
        recording = self.open(clip.recording)
        area = moving_area(self._grid(recording, clip.start, clip.stop))
        return suggest(area, recording.size)

    def has_frames(self, clip: ClipDraft) -> bool:
        return self._frames_folder(clip).is_dir()

    def track(self, clip: ClipDraft, progress: Progress = lambda _: None) -> None:
        """Make the clip's masks with the tracker."""
        folder = self.frames(clip, lambda fraction: progress(0.3 * fraction))
        masks = self.tracker().track(folder, clip, lambda f: progress(0.3 + 0.7 * f))
        write_masks(self._masks_path(clip), masks)
        self._read_masks.cache_clear()
        self.evidence.cache_clear()

    def masks(self, clip: ClipDraft) -> Bool[np.ndarray, "t n i j"] | None:
        """At the tracker's size; None until tracked, and again after clicks, cut or crop change."""
        path = self._masks_path(clip)
        return self._read_masks(path) if path.is_file() else None

    def has_masks(self, clip: ClipDraft) -> bool:
        return self._masks_path(clip).is_file()

    def dropping(self, clip: ClipDraft) -> int:
        """Which object drops: the one with the highest point in the first frame."""
        return int(clip_info(clip, CHECKED_PX, {})["dropping_index"])

    def checks(self, clip: ClipDraft) -> list[Check]:
        return run_checks(self.evidence(clip))

    def save(self, clip: ClipDraft) -> Path:
        """Write the clip's folder beside the recordings. It must have been tracked."""
        masks = self.masks(clip)
        if masks is None:
            raise PisaError(f"{clip.name}: propagate the points first (T); there are no masks yet")
        checks = self.checks(clip)
        extra = {
            "tracker": type(self.tracker().tracker).__name__,
            "checks": {c.name: {"value": _plain(c.value), "passed": c.passed} for c in checks},
            "digest": self._digest(clip),
        }
        return export_clip(clip, self.frames(clip), masks, self.root / clip.name, extra)

    def is_saved(self, clip: ClipDraft) -> bool:
        """Whether the folder on disk is this clip as it is now."""
        try:
            text = (self.root / clip.name / "clip_info.json").read_text(encoding="utf-8")
            return bool(json.loads(text)["annotate"]["digest"] == self._digest(clip))
        except (OSError, ValueError, KeyError, TypeError):
            return False  # absent, or somebody else's

    def _evidence(self, clip: ClipDraft) -> Evidence:
        masks = self.masks(clip)
        if masks is None:
            raise PisaError("propagate the points first (T); checks look at the masks")
        recording = self.open(clip.recording)
        side = (CHECKED_PX, CHECKED_PX)
        frames, _ = read_frames(frame_paths(self.frames(clip)), side)
        sources = recording.index[clip.start : clip.stop]
        distinct = np.unique(sources)
        times_s = recording.times_s[distinct] / recording.slowdown
        return Evidence(
            frames=frames,
            masks=resize_masks(masks, *side),
            dropping=self.dropping(clip),
            signal=self._signal(recording),
            start=clip.start,
            intervals_ms=np.diff(times_s) * 1000,
            repeated=len(sources) - len(distinct),
            drop_height_m=clip.drop_height_m,
            rate_known=recording.rate_known,
        )

    def _signal(self, recording: Recording) -> np.ndarray:
        key = (recording.pack, recording.slowdown)
        if key not in self._signals:
            self._signals[key] = motion_signal(recording.grid[recording.index])
        return self._signals[key]

    def _grid(self, recording: Recording, start: int, stop: int) -> np.ndarray:
        return recording.grid[recording.index[start:stop]]

    def _free_name(self, recording: str) -> str:
        stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in Path(recording).stem)
        taken = {clip.name for clip in self.store.read().clips.values()}
        taken |= {path.name for path in self.root.iterdir()}
        names = (f"{stem.lstrip('_') or 'clip'}_{n:02d}" for n in range(1, 10_000))
        return next(name for name in names if name not in taken)

    def _frames_folder(self, clip: ClipDraft) -> Path:
        recording = self.open(clip.recording)
        return self.work / "clips" / frames_digest(recording, clip, self.size_px)

    def _masks_path(self, clip: ClipDraft) -> Path:
        folder = self._frames_folder(clip)
        clicks = json.dumps([asdict(entry) for entry in clip.objects])
        digest = hashlib.sha256(clicks.encode()).hexdigest()[:12]
        return folder.with_name(f"{folder.name}-{digest}.npz")

    def _digest(self, clip: ClipDraft) -> str:
        """Digest of everything that the saved folder shows."""
        words = [clip.description, clip.scene, clip.drop_height_m, self._masks_path(clip).stem]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


class Stopped(PisaError):
    """The person stopped the job."""


@dataclass
class Job:
    """State is read by the page and written by the worker."""

    title: str
    work: Callable[[Progress], None]
    fraction: float = 0.0
    error: str = ""
    done: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self._stop.set()

    def progress(self, fraction: float) -> None:
        """Called by the work; raises ``Stopped`` when that is wanted."""
        if self._stop.is_set():
            raise Stopped(f"{self.title}: stopped")
        self.fraction = fraction

    def run(self) -> None:
        """The work; what goes wrong becomes a line for the page, and a bug of ours its type."""
        try:
            self.progress(0.0)
            self.work(self.progress)
        except PisaError as error:
            self.error = str(error)
        except Exception as error:  # the worker must outlive it; the page shows it
            self.error = f"{self.title} failed: {type(error).__name__}: {error}"
        finally:
            self.fraction, self.done = 1.0, True


class Worker:
    """Runs jobs one after the other in a thread of its own: models and decoders use all cores."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.jobs: list[Job] = []

    def start(self, title: str, work: Callable[[Progress], None]) -> Job:
        """Begin a job; one of the same title that is not done yet is returned instead."""
        self.jobs = [job for job in self.jobs if not job.done]
        for job in self.jobs:
            if job.title == title:
                return job
        job = Job(title, work)
        self.jobs.append(job)
        threading.Thread(target=self._in_turn, args=(job,), daemon=True).start()
        return job

    @property
    def current(self) -> Job | None:
        return next((job for job in self.jobs if not job.done), None)

    def _in_turn(self, job: Job) -> None:
        with self._turn:
            job.run()
