"""How long a training command will take, from one clip and a few steps measured beforehand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pisa.bench.references import ModelSource
from pisa.bench.score import Scorer
from pisa.data.clip_io import write_clip
from pisa.launch.runs import SET_KEYS, EvalRun, StageRun, TrainRun, build_tracker, is_first_process
from pisa.launch.train import build_task
from pisa.models.base import VideoModel
from pisa.models.generate import model_velocity
from pisa.ops.devices import precision_of
from pisa.rewards.base import rewards_of
from pisa.simulation.fast import FastSimulator
from pisa.simulation.produce import DataSetSpec
from pisa.tasks.base import FORWARD_BACKWARD, DenoiserTask
from pisa.tasks.group import GroupTask
from pisa.tasks.reward_task import RewardTask
from pisa.types import Batch, Clip, collate

REPEATS = 2  # after one step that warms up
FEW_STEPS = 8  # a run of as many in each stage takes no longer than measuring it


def announce(run: TrainRun) -> None:
    """Print how long the run will take, on the first process."""
    line = estimate(run) if is_first_process() else None
    if line is not None:
        print(line, flush=True)


def estimate(run: TrainRun) -> str | None:
    """One line: the expected time, and its parts; None where it cannot be measured in seconds.

    That is on a GPU, with a renderer other than the fast one, for a stage without a video model,
    and for runs of a few steps. A stage that is finished or skipped counts nothing, a stopped one
    counts from its start.
    """
    stages = [s for s in run.stages if s.settings.checkpoint is None and not s.weights.is_file()]
    if not stages or not all(_is_small(stage) for stage in stages):
        return None
    if all(stage.settings.max_steps <= FEW_STEPS for stage in stages):
        return None
    seconds: dict[str, float] = {"simulation": _simulation_s(run)}
    clip = _one_clip(stages[0])
    for stage in stages:
        seconds[stage.stage] = _training_s(stage, clip)
    if run.scoring is not None:
        seconds["scores"] = _scoring_s(run.scoring, stages[0], clip, 1 + len(run.stages))
    parts = ", ".join(f"{name} {time_s / 60:.1f}" for name, time_s in seconds.items())
    return f"about {sum(seconds.values()) / 60:.0f} min in all: {parts}"


def _is_small(stage: StageRun) -> bool:
    simulators = (stage.sets.spec(n).simulator for n in _set_names(stage) if n in stage.sets.names)
    on_cpu = stage.trainer.settings.get("accelerator") == "cpu" and stage.model is not None
    return on_cpu and all(isinstance(simulator, FastSimulator) for simulator in simulators)


def _set_names(stage: StageRun) -> list[str]:
    return [stage.data.settings[key] for key in SET_KEYS if key in stage.data.settings]


def _simulation_s(run: TrainRun) -> float:
    """Seconds to make the data sets that are missing."""
    missing = {n: s.sets for s in run.stages for n in _set_names(s) if n in s.sets.names}
    total = 0.0
    for name, sets in missing.items():
        spec, done = sets.spec(name), sets.root / sets.folder_name(name) / "manifest.json"
        if done.exists():
            continue
        per_clip = _clip_s(spec)
        workers = sets.num_workers if spec.num_clips >= spec.simulator.min_clips_for_workers else 1
        total += per_clip * spec.num_clips / workers
    return total


def _clip_s(spec: DataSetSpec) -> float:
    """Seconds to make and write a clip."""
    seeds = itertools.count(spec.first_seed)

    def make(folder: Path) -> None:
        seed = next(seeds)
        clip, extra = spec.simulator.make_clip(seed, spec.split, str(seed))
        write_clip(folder / str(seed), clip, extra=extra)

    with TemporaryDirectory() as folder:
        return _seconds(lambda: make(Path(folder)))


def _one_clip(stage: StageRun) -> Clip:
    """A clip as the stage trains on, not from a data set."""
    name = next(name for name in _set_names(stage) if name in stage.sets.names)
    spec = stage.sets.spec(name)
    clip, _ = spec.simulator.make_clip(spec.first_seed, spec.split, "measured")
    return clip


def _batch(stage: StageRun, clip: Clip, size: int) -> Batch:
    batch = collate([replace(clip, name=f"measured_{i}") for i in range(size)])
    return batch.frames(slice(stage.data.settings.get("num_frames")))


def _training_s(stage: StageRun, clip: Clip) -> float:
    task = build_task(stage, None)
    assert isinstance(task, DenoiserTask)
    settings = stage.settings
    batch = _batch(stage, clip, settings.batch_size)
    with _precision(stage):
        step = task.passes_per_clip * _pass_s(task.model, batch)
        if isinstance(task, RewardTask):
            step += _reward_s(task, batch)
    return settings.max_steps * step


def _scoring_s(run: EvalRun, stage: StageRun, clip: Clip, models: int) -> float:
    assert stage.model is not None
    settings = run.evaluation
    batch = _batch(stage, clip, settings.batch_size)
    source = ModelSource(stage.model.build(), settings)
    scorer = Scorer(build_tracker(run.tracker, torch.device("cpu")), settings.protocol)
    tracked = _seconds(lambda: scorer.score(batch, batch.video, model="", split=""))
    made = _seconds(lambda: source(batch, 0))
    names = [n for n in _set_names(stage) if n != stage.settings.train]
    clips = sum(settings.num_clips or stage.sets.num_clips(name) for name in names)
    return clips / settings.batch_size * (models * made + (models + 2) * tracked)


def _pass_s(model: VideoModel, batch: Batch) -> float:
    """Seconds of a forward pass of the denoiser, a backward pass counting as two."""
    latents = model.encode(batch.video)
    condition = model.with_first_frame(
        model.encode_captions(batch.captions), batch.first_frame, batch.video.shape[2]
    )
    given = model.given_frames(latents)
    velocity = model_velocity(model, condition, given, batch.fps_hz, 1.0)
    level = torch.full((len(batch),), 0.5)
    return _seconds(lambda: velocity(latents, level).square().mean().backward()) / FORWARD_BACKWARD


def _reward_s(task: RewardTask, batch: Batch) -> float:
    """Seconds to reward the clips of a step; only ORO needs the gradient."""
    rows = torch.arange(len(batch)).repeat_interleave(task.clips_per_first_frame)
    batch = batch.clips(rows)
    if isinstance(task, GroupTask):
        with torch.no_grad():
            return _seconds(lambda: rewards_of(task.reward, batch.video, batch))
    video = batch.video.clone().requires_grad_()
    return _seconds(lambda: rewards_of(task.reward, video, batch).sum().backward())


def _seconds(work: Callable[[], object]) -> float:
    work()
    begin = time.perf_counter()
    for _ in range(REPEATS):
        work()
    return (time.perf_counter() - begin) / REPEATS


def _precision(stage: StageRun) -> torch.autocast:
    precision = precision_of(str(stage.trainer.settings.get("precision", "32-true")))
    return torch.autocast("cpu", torch.bfloat16, enabled=precision.startswith("bf16"))
