"""Encode a training set once, before any training: latents on disk, for all runs and ranks.

    pisa latents experiment=psft scale=paper
    torchrun --standalone --nproc-per-node=8 -m pisa latents experiment=psft scale=paper

takes the settings of train.py and fills ``psft.task.latent_cache_dir``. Processes share the clips;
clips whose latent is there are skipped, so the same command resumes.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import torch

from pisa.errors import PisaError
from pisa.io.progress import clip_progress
from pisa.launch.compose import compose_train, composed
from pisa.launch.entry import mistake_in
from pisa.launch.runs import RankInfo, StageRun, build_data, build_model, prepare_torch
from pisa.ops.devices import pick_device, precision_of
from pisa.tasks.latents import LatentEncoder

FOLDER = "latent_cache_dir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="+", help="as for train.py: experiment=psft scale=paper")


def main(given: argparse.Namespace) -> None:
    """Encode the training clips of the first stage that keeps latents on disk."""
    message = mistake_in(given.settings, "train")
    if message is not None:
        raise PisaError(message)
    run = compose_train(composed("train", given.settings))
    stages = [stage for stage in run.stages if stage.task.settings.get(FOLDER)]
    if not stages:
        raise PisaError(
            f"no stage keeps latents on disk: psft.task.{FOLDER}=FOLDER says where they go"
        )
    prepare_torch(run.seed)
    ranks = RankInfo.from_environment()
    made, there = ranks.gather(encode(stages[0], ranks)), stages[0].task.settings[FOLDER]
    if ranks.rank == 0:
        encoded, total = (sum(numbers) for numbers in zip(*made, strict=True))
        print(f"{encoded} of {total} clips encoded, the others were there: {there}")


def encode(stage: StageRun, ranks: RankInfo) -> tuple[int, int]:
    """Encode this process' clips; returns how many were encoded, and how many it has."""
    assert stage.model is not None, "a stage with a task that encodes has a model"
    settings = stage.task.settings
    device = ranks.device(pick_device("auto"))
    model = build_model(stage.model, None)
    model.to(device)
    model.eval()
    data = build_data(stage.data, stage.sets, batch_size=1)
    with ranks.first_alone():
        data.prepare_data()
    data.setup("fit")
    clips = data.train_set
    assert clips is not None, "setup has built it"
    encoder = LatentEncoder(model, settings["first_frame"], cache=False, folder=settings[FOLDER])
    mixed = precision_of(str(stage.trainer.settings.get("precision", "32-true"))) == "bf16-mixed"
    arithmetic = torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()
    encoded, mine = 0, ranks.share(range(len(clips)))
    with clip_progress() as progress, arithmetic:
        task = progress.add_task("encoding", total=len(mine))
        for index in mine:
            clip = clips[index]
            encoded += encoder.keep(clip.name, clip.video.to(device))
            progress.advance(task)
    return encoded, len(mine)
