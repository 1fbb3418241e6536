"""Generation as a job: videos of one model for a split of PisaBench, kept as files, then scored.

Every (clip, seed) is a file ``CLIP_sSEED.mkv`` (lossless) with a JSON of settings beside it. Both
appear whole or not at all, so a stopped job resumes with the same command. Under torchrun each
process generates its share of the samples; process 0 scores.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from pisa.errors import PisaError
from pisa.io.progress import clip_progress
from pisa.io.secrets import redacted
from pisa.launch.benchmark import benchmark_clips
from pisa.launch.generated_files import GeneratedFiles, Wanted
from pisa.launch.generation_settings import GenerationSettings, required
from pisa.launch.generator import ClipGenerator, out_of_memory_hint
from pisa.launch.outcome import IncompleteError
from pisa.launch.runs import EvalRun, build_model
from pisa.launch.video_source import pick_device

VIDEOS = "videos"  # folder inside the output folder


@dataclass(frozen=True)
class Place:
    """This process among those that torchrun started."""

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def from_environment(cls) -> Place:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ.get(n, d)) for n, d in zip(names, (0, 1, 0), strict=True)))

    def share(self, samples: list[Wanted]) -> list[Wanted]:
        return samples[self.rank :: self.world_size]


def generate_and_score(run: EvalRun) -> None:
    """Generate what is missing in ``folder/videos``, then score it unless ``generate_only``.

    Raises:
        PisaError: wrong settings before any work; out of memory, with the switch that helps.
        IncompleteError: clips whose video was not finite; the others are kept.
    """
    settings = required(run.generation)
    place = Place.from_environment()
    if place.rank != 0:
        _wait_for_others(place)  # process 0 makes clips that are missing
    clips = benchmark_clips(run)[: run.evaluation.num_clips]
    if place.rank == 0:
        _wait_for_others(place)
    ckpt = None if run.ckpt is None else str(run.ckpt)
    described = {"model": dict(run.model.settings), "ckpt": ckpt, "split": run.benchmark}
    files = GeneratedFiles(
        run.folder / VIDEOS, settings, settings.sha256(described), redacted(described)
    )
    everything = [Wanted(clip, seed) for clip in clips for seed in settings.seeds]
    if place.rank == 0:
        done = len(everything) - len(files.missing(everything))
        print(f"videos: {done} of {len(everything)} are there already, in {files.folder}")
    mine = files.missing(place.share(everything))  # whatever the others have written meanwhile
    failed = _generate(run, settings, mine, files, place) if mine else []
    _wait_for_others(place)
    if place.rank == 0 and not run.generate_only:
        assert run.scored_videos is not None, "eval.yaml has scored_videos"
        score = run.scored_videos.build(path=str(files.folder))
        score(replace(run, name=settings.name) if run.name == run.row else run)
    if failed:
        raise IncompleteError(f"{len(failed)} videos were not finite: {', '.join(failed[:5])}")


def _generate(
    run: EvalRun,
    settings: GenerationSettings,
    samples: list[Wanted],
    files: GeneratedFiles,
    place: Place,
) -> list[str]:
    """Generate one process' share; returns the samples that were not finite."""
    model = build_model(run.model, run.ckpt)
    generator = ClipGenerator(model, settings)
    device = _device(run, place)
    done, failed = 0, []
    try:
        model.eval()
        model.place(device)
        bar = clip_progress()
        bar.disable = place.rank != 0
        with bar as progress:
            task = progress.add_task("generating", total=len(samples))
            for start in range(0, len(samples), settings.batch_size):
                batch = samples[start : start + settings.batch_size]
                for sample, frames in generator(batch, device):
                    if frames is None:
                        failed.append(sample.stem)
                    else:
                        files.write(sample, frames, generator.prompt(sample))
                    done += 1
                    progress.advance(task)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        hint = out_of_memory_hint(error, run.model.settings, settings.batch_size)
        if hint is None:
            raise
        kept = f"{done} of {len(samples)} videos are finished and kept"
        raise PisaError(
            f"out of memory on {device}: {hint}; {kept}, the same command resumes"
        ) from error
    return failed


def _device(run: EvalRun, place: Place) -> torch.device:
    device = pick_device((run.scored_videos or run.tracker).settings.get("device", "auto"))
    if device.type != "cuda":
        return device
    return torch.device("cuda", place.local_rank % torch.cuda.device_count())


def _wait_for_others(place: Place) -> None:
    """Until every process has come to this point."""
    if place.world_size == 1:
        return
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=datetime.timedelta(days=14))
    dist.barrier()
