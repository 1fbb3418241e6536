"""Writes prompts (CSV) and padded first frames for a model that runs elsewhere."""

from __future__ import annotations

import csv
import io

from PIL import Image

from pisa.data.borders import pad_to
from pisa.data.clip_info import caption_of, read_info
from pisa.io.files import write_atomic
from pisa.io.progress import clip_progress
from pisa.launch.benchmark import benchmark_clips
from pisa.launch.generated_files import Wanted
from pisa.launch.generation_settings import required
from pisa.launch.generator import first_frame_of
from pisa.launch.runs import EvalRun

COLUMNS = (
    "save_as", "first_frame", "prompt", "negative_prompt", "seed",
    "width", "height", "frames", "fps",
)  # fmt: skip


def write_upload(run: EvalRun) -> None:
    """Write ``prompts.csv`` and ``first_frames/CLIP.png``; nothing is scored.

    Each line asks for one video, to be saved under ``save_as``, the name that ``source=imported``
    matches. Raises ``PisaError`` for a benchmark or generation settings that are not there.
    """
    settings, folder = required(run.generation), run.folder
    clips = benchmark_clips(run)[: run.evaluation.num_clips]
    lines = []
    with clip_progress() as progress:
        task = progress.add_task("padding first frames", total=len(clips))
        for clip in clips:
            sample = Wanted(clip, 0)
            padded = pad_to(first_frame_of(sample), settings.height, settings.width)
            buffer = io.BytesIO()
            Image.fromarray(padded).save(buffer, format="PNG")
            write_atomic(folder / "first_frames" / f"{clip.name}.png", buffer.getvalue())
            prompt = settings.prompt(caption_of(read_info(clip), clip))
            lines += [
                (
                    f"{clip.name}_s{seed}.mp4", f"first_frames/{clip.name}.png", prompt,
                    settings.negative_prompt or "", seed, settings.width, settings.height,
                    settings.keep_frames or settings.num_frames, settings.fps_hz,
                )
                for seed in settings.seeds
            ]  # fmt: skip
            progress.advance(task)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *lines])
    write_atomic(folder / "prompts.csv", text.getvalue().encode())
    print(f"{len(lines)} prompts and {len(clips)} first frames for {settings.name}: {folder}")
