"""Generation as a job: videos of one model for a split of PisaBench, kept as files, then scored.

Every (clip, seed) is a file ``CLIP_sSEED.mkv`` (lossless) with a JSON of settings beside it. Both
appear whole or not at all, so a stopped job resumes with the same command. Under torchrun each
process generates its share of the videos; process 0 scores.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pisa.data.borders import central_window, pad_to
from pisa.data.clip_info import caption_of, read_info
from pisa.data.image_files import frame_paths, read_frames
from pisa.errors import IncompleteError, PisaError
from pisa.io.files import write_atomic
from pisa.io.progress import clip_progress
from pisa.io.provenance import provenance
from pisa.io.secrets import redacted
from pisa.launch.runs import EvalRun, RankInfo, build_model
from pisa.launch.settings import GenerationSettings
from pisa.launch.videos import benchmark_clips
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.devices import pick_device
from pisa.ops.seeding import clip_noise, default_generator_of
from pisa.ops.video import from_frames, to_frames, write_lossless

VIDEOS = "videos"  # folder inside the output folder
UPLOAD_COLUMNS = (
    "save_as", "first_frame", "prompt", "negative_prompt", "seed",
    "width", "height", "frames", "fps",
)  # fmt: skip
Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class VideoJob:
    """One video to make: a clip folder of the benchmark and a seed."""

    clip: Path
    seed: int

    @property
    def stem(self) -> str:
        return f"{self.clip.name}_s{self.seed}"

    def prompt(self, settings: GenerationSettings) -> str:
        return settings.prompt(caption_of(read_info(self.clip), self.clip))

    def first_frame(self) -> UInt8[np.ndarray, "h w 3"]:
        """The clip's first frame at the size it has on disk."""
        frames, _ = read_frames(frame_paths(self.clip)[:1])
        frame: UInt8[np.ndarray, "h w 3"] = frames[0]
        return frame


def generate_and_score(run: EvalRun) -> None:
    """Generate what is missing in ``folder/videos``, then score it unless ``generate_only``.

    Raises:
        PisaError: wrong settings before any work; out of memory, with the switch that helps.
        IncompleteError: clips whose video was not finite; the others are kept.
    """
    settings = required(run.generation)
    ranks = RankInfo.from_environment()
    with ranks.first_alone():
        clips = benchmark_clips(run)[: run.evaluation.num_clips]
    files = GeneratedFiles(run, settings)
    everything = [VideoJob(clip, seed) for clip in clips for seed in settings.seeds]
    if ranks.rank == 0:
        done = len(everything) - len(files.missing(everything))
        print(f"videos: {done} of {len(everything)} are there already, in {files.folder}")
    mine = files.missing(ranks.share(everything))  # whatever the others have written meanwhile
    failed = _generate(run, settings, mine, files, ranks) if mine else []
    ranks.wait()
    if ranks.rank == 0 and not run.generate_only:
        assert run.scored_videos is not None, "eval.yaml has scored_videos"
        score = run.scored_videos.build(path=str(files.folder), allow_other_first_frames=True)
        score(replace(run, name=settings.name) if run.name == run.row else run)
    if failed:
        raise IncompleteError(f"{len(failed)} videos were not finite: {', '.join(failed[:5])}")


def write_upload(run: EvalRun) -> None:
    """Write ``prompts.csv`` and ``first_frames/CLIP.png`` for a model that runs elsewhere.

    Each line asks for one video, to be saved under ``save_as``, the name that ``source=videos``
    matches. Nothing is scored. Raises ``PisaError`` for an unknown benchmark, or without generation
    settings.
    """
    settings = required(run.generation)
    clips = benchmark_clips(run)[: run.evaluation.num_clips]
    frames = settings.keep_frames or settings.num_frames
    lines = []
    with clip_progress() as progress:
        task = progress.add_task("padding first frames", total=len(clips))
        for clip in clips:
            job, picture = VideoJob(clip, 0), f"first_frames/{clip.name}.png"
            padded = pad_to(job.first_frame(), settings.height, settings.width)
            buffer = io.BytesIO()
            Image.fromarray(padded).save(buffer, format="PNG")
            write_atomic(run.folder / picture, buffer.getvalue())
            lines += [
                (
                    f"{VideoJob(clip, seed).stem}.mp4", picture, job.prompt(settings),
                    settings.negative_prompt or "", seed, settings.width, settings.height,
                    frames, settings.fps_hz,
                )
                for seed in settings.seeds
            ]  # fmt: skip
            progress.advance(task)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([UPLOAD_COLUMNS, *lines])
    write_atomic(run.folder / "prompts.csv", text.getvalue().encode())
    print(f"{len(lines)} prompts and {len(clips)} first frames for {settings.name}: {run.folder}")


def required(settings: GenerationSettings | None) -> GenerationSettings:
    """Raises ``PisaError`` where the model has none."""
    if settings is None:
        raise PisaError(
            "this model has no generation settings; generation=NAME takes some "
            "(docs/guide/models.md)"
        )
    return settings


class GeneratedFiles:
    """The folder of one model's videos: ``CLIP_sSEED.mkv`` and, beside it, ``CLIP_sSEED.json``.

    A folder with videos of other settings is refused.
    """

    def __init__(self, run: EvalRun, settings: GenerationSettings) -> None:
        self.folder, self.settings = run.folder / VIDEOS, settings
        ckpt = None if run.ckpt is None else str(run.ckpt)
        described = {"model": dict(run.model.settings), "ckpt": ckpt, "split": run.benchmark}
        self.sha256 = settings.sha256(described)
        self.described = redacted(described)
        self._provenance = provenance(self.described, self.sha256, settings.seeds[0])

    def missing(self, jobs: Sequence[VideoJob]) -> list[VideoJob]:
        """Jobs without a finished video.

        Raises:
            PisaError: a video of other settings is in the folder.
        """
        return [job for job in jobs if not self._is_finished(job)]

    def write(self, job: VideoJob, frames: Frames) -> None:
        """The video first, then the JSON, which says that the job is finished."""
        write_lossless(self.folder / f"{job.stem}.mkv", frames, self.settings.fps_hz)
        content = {
            "clip": job.clip.name,
            "seed": job.seed,
            "prompt": job.prompt(self.settings),
            "settings_sha256": self.sha256,
            "settings": asdict(self.settings),
            **self.described,
            "provenance": self._provenance,
        }
        text = json.dumps(content, indent=1, default=str)
        write_atomic(self.folder / f"{job.stem}.json", text.encode())

    def _is_finished(self, job: VideoJob) -> bool:
        record = self.folder / f"{job.stem}.json"
        if not record.is_file() or not (self.folder / f"{job.stem}.mkv").is_file():
            return False
        try:
            found = json.loads(record.read_text())["settings_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if found != self.sha256:
            raise PisaError(
                f"{self.folder} holds videos of other settings ({record.name}); "
                "choose another output_dir, or remove them"
            )
        return True


def _generate(
    run: EvalRun,
    settings: GenerationSettings,
    jobs: list[VideoJob],
    files: GeneratedFiles,
    ranks: RankInfo,
) -> list[str]:
    """Generate one process' share; returns the videos that were not finite."""
    model = build_model(run.model, run.ckpt)
    generator = ClipGenerator(model, settings)
    device = _device(run, ranks)
    done, failed = 0, []
    try:
        model.eval()
        model.place(device)
        bar = clip_progress()
        bar.disable = ranks.rank != 0
        with bar as progress:
            task = progress.add_task("generating", total=len(jobs))
            for start in range(0, len(jobs), settings.batch_size):
                for job, frames in generator(jobs[start : start + settings.batch_size], device):
                    if frames is None:
                        failed.append(job.stem)
                    else:
                        files.write(job, frames)
                    done += 1
                    progress.advance(task)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        hint = out_of_memory_hint(error, run.model.settings, settings.batch_size)
        if hint is None:
            raise
        kept = f"{done} of {len(jobs)} videos are finished and kept"
        raise PisaError(
            f"out of memory on {device}: {hint}; {kept}, the same command resumes"
        ) from error
    return failed


class ClipGenerator:
    """Yields (job, frames) for a batch of jobs; None for a video that is not finite.

    First frames are padded to the model's size, and the borders cut off again. The noise belongs to
    (seed, clip name). Other draws (a sampled posterior) belong to the batch.

    Raises:
        PisaError: the model cannot make that size or number of frames (before any work).
    """

    def __init__(self, model: VideoModel, settings: GenerationSettings) -> None:
        self.model, self.settings = model, settings
        if settings.num_steps is None or settings.guidance is None:
            raise PisaError("generation.num_steps and generation.guidance are needed")
        self.num_steps, self.guidance = settings.num_steps, settings.guidance
        size = settings.num_frames, settings.height, settings.width
        self.latent_shape = model.latent_shape(*size)

    @torch.no_grad()
    def __call__(
        self, jobs: Sequence[VideoJob], device: torch.device
    ) -> Iterator[tuple[VideoJob, Frames | None]]:
        settings = self.settings
        firsts = [job.first_frame() for job in jobs]
        padded = [pad_to(frame, settings.height, settings.width)[None] for frame in firsts]
        noise = torch.cat([clip_noise([j.clip.name], j.seed, self.latent_shape) for j in jobs])
        with default_generator_of(device, "generation", *(job.stem for job in jobs)):
            videos = generate(
                self.model,
                torch.stack([from_frames(frame)[:, 0] for frame in padded]).to(device),
                [job.prompt(settings) for job in jobs],
                num_frames=settings.num_frames,
                fps_hz=settings.fps_hz,
                num_steps=self.num_steps,
                guidance=self.guidance,
                noise=noise.to(device),
                decode_chunk=1,
            )
        for job, first, video in zip(jobs, firsts, videos, strict=True):
            finite = bool(video.isfinite().all())
            yield job, self._without_borders(first, video) if finite else None

    def _without_borders(
        self, first: UInt8[np.ndarray, "h w 3"], video: Float[Tensor, "3 t h w"]
    ) -> Frames:
        aspect = first.shape[1] / first.shape[0]
        rows, columns = central_window(self.settings.height, self.settings.width, aspect)
        return to_frames(video[:, : self.settings.keep_frames, rows, columns])


def out_of_memory_hint(
    error: BaseException, model: Mapping[str, Any], batch_size: int
) -> str | None:
    """Which switch to use next, cheapest first; None where memory was not the reason."""
    text = str(error).lower()
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not (
        "out of memory" in text or "can't allocate memory" in text
    ):
        return None
    if batch_size > 1:
        return "set generation.batch_size=1"
    for switch, off, on in (
        ("vae_tiling", False, "true"),
        ("offload", "none", "model"),
        ("offload", "model", "sequential"),
    ):
        if switch in model and model[switch] == off:
            return f"set model.{switch}={on}"
    return "generate fewer or smaller frames (generation.num_frames, height, width)"


def _device(run: EvalRun, ranks: RankInfo) -> torch.device:
    named = (run.scored_videos or run.tracker).settings.get("device", "auto")
    return ranks.device(pick_device(named))
