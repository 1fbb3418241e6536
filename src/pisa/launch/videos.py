"""``source=videos``: scores for a folder of anyone's videos against a split of PisaBench."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch
import yaml
from torch import nn

from pisa.bench import first_frame
from pisa.bench.collect import SHOWN_FPS_HZ, Collection
from pisa.bench.match import Matches, Sample, match_videos
from pisa.bench.references import REFERENCES
from pisa.bench.score import Failure, Scored, Scorer
from pisa.data.clip_info import read_info, scene_of
from pisa.data.clip_io import read_clip
from pisa.data.manifest import clip_sha256, list_clips
from pisa.data.real import require_real_clips
from pisa.data.video_files import Limits, parse_fit, read_footage
from pisa.errors import PisaError
from pisa.io.files import sha256_of
from pisa.io.progress import clip_progress
from pisa.launch.results import document_of, provenance_of, publish
from pisa.launch.runs import SIM, SPLITS, EvalRun
from pisa.launch.targets import Part
from pisa.ops.devices import pick_device
from pisa.ops.video import from_frames
from pisa.perception.base import Tracker
from pisa.perception.embedded_segmentation import EmbeddedTracker
from pisa.perception.mask_cache import CachedTracker, tracker_identity
from pisa.ranges import PixelSize, Positive, WholeNumber
from pisa.reports.html import Page
from pisa.reports.published import published_table_1
from pisa.types import Batch, Clip, collate

MAX_FPS_HZ = 10_000
REAL_SIZE = (256, 256)  # the release converts its real clips to this size before scoring
_LISTED = 10  # names of missing or extra videos that are printed


@dataclass(frozen=True, kw_only=True)
class ScoreVideos:
    """Scores the videos of ``path`` when it is called with a run; settings: configs/source/videos.

    For ``benchmark=sim``, ``path`` holds the folders sim_seen and sim_unseen.

    Raises ``IncompleteError`` where samples failed (see ``publish``), other ``PisaError``s for
    mistakes, before any work.
    """

    path: str | None
    fps_hz: Positive | None
    size: PixelSize | None
    fit: str
    references: list[str]
    mask_cache: str
    device: str
    shown_clips: WholeNumber
    limits: Limits
    allow_other_first_frames: bool = False

    def __call__(self, run: EvalRun) -> None:
        path = self._checked_path(run)
        both = run.benchmark == SIM
        runs = [replace(run, benchmark=s) for s in SPLITS if s != "real"] if both else [run]
        sets = []  # (run of one split, its clips, its videos): all mistakes come before any work
        for one in runs:
            every = benchmark_clips(one)
            chosen = every[: run.evaluation.num_clips]
            folder = path / str(one.benchmark) if both else path
            found = match_videos(folder, [c.name for c in chosen], [c.name for c in every])
            _print_matches(found)
            sets.append((one, chosen, found))
        device = pick_device(self.device)
        tracker = cached_tracker(run.tracker, self.mask_cache, device)
        if run.benchmark == "real" and isinstance(tracker.tracker, EmbeddedTracker):
            print("note: perception=embedded knows simulated clips only; the paper's is pretrained")
        scorer = Scorer(tracker, run.evaluation.protocol, device, run.evaluation.prompt)
        collection, data = Collection(self.shown_clips), []
        with clip_progress() as progress:
            for one, chosen, matches in sets:
                clips = {clip.name: clip for clip in chosen}
                videos = VideoScorer(scorer, collection, one, self)
                task = progress.add_task(f"scoring {run.name}", total=len(clips))
                for name, samples in groupby(matches.samples, key=lambda sample: sample.clip):
                    videos.score_clip(clips[name], list(samples))
                    progress.advance(task)
                data.append(f"{one.benchmark}:{_clips_sha256(chosen)}")
                data.append(f"videos:{_videos_sha256(matches.samples)}")
        print(f"masks: {tracker.hits} read from {tracker.folder}, {tracker.misses} tracked now")
        for note in collection.notes():
            print(f"note: {note}", file=sys.stderr)
        origin = provenance_of(run, " ".join(data), tracker.tracker)
        extra = [entry.name for _, _, matches in sets for entry in matches.extra]
        publish(
            run,
            document_of(run, collection, origin, extra_videos=extra),
            run.name,
            Page(
                title=f"PisaBench: {run.name}",
                videos=collection.videos,
                published=published_table_1() if run.evaluation.show_published else (),
                fps_hz=SHOWN_FPS_HZ,
            ),
        )

    def _checked_path(self, run: EvalRun) -> Path:
        if self.fps_hz is not None and not 0 < self.fps_hz < MAX_FPS_HZ:
            raise PisaError(
                f"source.fps_hz must lie between 0 and {MAX_FPS_HZ} Hz, not {self.fps_hz:g}"
            )
        if self.path is None:
            raise PisaError("source.path=DIR is needed: the folder of the videos")
        parse_fit(self.fit)
        known = ", ".join(REFERENCES)
        if run.name in REFERENCES:
            raise PisaError(f"name={run.name} is taken: {known} are the reference rows")
        unknown = [name for name in self.references if name not in REFERENCES]
        if unknown:
            raise PisaError(f"no reference named {unknown[0]!r}; valid: {known}")
        return Path(self.path)


def benchmark_clips(run: EvalRun) -> list[Path]:
    """Clip folders of the split ``benchmark``; simulated ones are made when they are missing.

    Raises ``PisaError`` for another name, and for real clips that are not there (what to fetch).
    """
    split = run.benchmark
    if split not in SPLITS:
        given = "" if split is None else f", not {split!r}"
        valid = f"{', '.join(SPLITS)}, {SIM} (videos only) or a folder of clips"
        raise PisaError(f"benchmark must be one of {valid}{given}")
    if split == "real" or run.own_clips:
        return list_clips(require_real_clips(run.data_dir / run.real.settings["name"]))
    return list_clips(run.sets.make(str(run.data.settings.get(split, split))))


def benchmark_size(run: EvalRun, given: Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) that clips are read at; None keeps the size on disk."""
    if given is not None:
        return given[0], given[1]
    return REAL_SIZE if run.benchmark == "real" or run.own_clips else None


@dataclass
class VideoScorer:
    """Scores the videos of one clip after another; one broken video never stops the others."""

    scorer: Scorer
    collection: Collection
    run: EvalRun
    settings: ScoreVideos

    @property
    def split(self) -> str:
        return str(self.run.benchmark)

    def score_clip(self, folder: Path, samples: Sequence[Sample]) -> None:
        """Score the samples of one clip and the references."""
        try:
            clip = read_clip(folder, size=benchmark_size(self.run, self.settings.size))
            scene = scene_of(read_info(folder), folder)
        except PisaError as error:
            for sample in samples:
                self._fail(sample, f"the benchmark's clip cannot be read: {error}")
            return
        groups = {} if scene is None else {"scene": scene}
        truth = collate([clip])
        for name in self.settings.references:
            (result,) = self.scorer.score(
                truth, REFERENCES[name](truth, 0), model=name, split=self.split
            )
            self.collection.add(result, thin_from_hz=clip.fps_hz, **groups)
        for sample in samples:
            try:
                self._score(sample, clip, truth, groups)
            except PisaError as error:
                self._fail(sample, str(error))

    def _score(self, sample: Sample, clip: Clip, truth: Batch, groups: dict[str, str]) -> None:
        if sample.path is None:
            raise PisaError(sample.problem)
        footage = read_footage(
            sample.path,
            (clip.video.shape[2], clip.video.shape[3]),
            expected_fps_hz=clip.fps_hz,
            fps_hz=self.settings.fps_hz,
            fit=self.settings.fit,
            limits=self.settings.limits,
        )
        video = from_frames(footage.frames)
        apart = first_frame.difference(clip.video[:, 0], video[:, 0], clip.masks[:, 0])
        if apart > first_frame.LIMIT and not self.settings.allow_other_first_frames:
            raise PisaError(
                f"its first frame is not the clip's (mean difference {apart:.0f} of 255, at most "
                f"{first_frame.LIMIT:g}): another clip, mirrored, faded in or of another data set? "
                "source.allow_other_first_frames=true scores it all the same"
            )
        (result,) = self.scorer.score(
            truth, video[None], model=self.run.name, split=self.split, seed=sample.seed,
            fps_hz=footage.fps_hz,
        )  # fmt: skip
        if isinstance(result, Scored):
            shift = first_frame.shift(clip.video, clip.fps_hz, video, footage.fps_hz)
            result = replace(result, row=replace(result.row, frame_shift=shift))
        self.collection.add(result, thin_from_hz=footage.fps_hz, **groups)

    def _fail(self, sample: Sample, reason: str) -> None:
        self.collection.add(Failure(self.run.name, self.split, sample.clip, sample.seed, reason))


def cached_tracker(part: Part, folder: str, device: torch.device) -> CachedTracker:
    """The configured tracker with its masks kept in ``folder``."""
    tracker: Tracker = part.build()
    settings = yaml.safe_dump(dict(part.settings), allow_unicode=True, sort_keys=True)
    identity = tracker_identity(tracker, settings)
    if isinstance(tracker, nn.Module):
        tracker.to(device)
    return CachedTracker(tracker, folder, identity)


def _print_matches(matches: Matches) -> None:
    found = len(matches.samples) - len(matches.missing)
    print(f"videos: {found} of {len(matches.samples)} expected, {len(matches.extra)} extra")
    missing = [f"{s.clip} (seed {s.seed})" for s in matches.missing]
    for label, names in (("missing", missing), ("extra", [e.name for e in matches.extra])):
        if names:
            rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            print(f"{label}: {', '.join(names[:_LISTED])}{rest}")


def _clips_sha256(clips: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.name} {clip_sha256(clip)}\n".encode())
    return digest.hexdigest()


def _videos_sha256(samples: Sequence[Sample]) -> str:
    """Hash of the videos' bytes; those that cannot be read count as such."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.clip} {sample.seed} ".encode())
        if sample.path is None:
            continue
        files = sorted(sample.path.iterdir()) if sample.path.is_dir() else [sample.path]
        for file in files:
            try:
                digest.update(bytes.fromhex(sha256_of(file)))
            except OSError:
                digest.update(b"unreadable")
    return digest.hexdigest()
