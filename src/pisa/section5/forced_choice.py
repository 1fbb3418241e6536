"""A test without generation: which of two motions does a model find more likely?

After LikePhys (arXiv:2510.11512): the denoising loss stands for the likelihood of a clip. Every
scene is rendered with its true fall and with falls that cannot be, from the same first frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.noise_levels import shift_noise_level
from pisa.diffusion.path import blend_clean, interpolate, velocity_loss, velocity_target
from pisa.errors import PisaError
from pisa.metrics.statistics import bootstrap_ci
from pisa.models.base import VideoModel
from pisa.ops.seeding import generator_of
from pisa.simulation.fast import FastSimulator, draw_moving_scene
from pisa.simulation.physics import Motion, simulate_fall
from pisa.simulation.produce import DataSetSpec
from pisa.types import Batch, Clip, Poses, collate

TRUE = "true"
SPEEDS = {TRUE: 1.0, "slower": 0.5, "faster": 2.0}  # half the speed is a quarter of g
IMPOSSIBLE = ("slower", "faster", "floating", "upward")


@dataclass(frozen=True)
class Choice:
    """Losses of one scene by the name of its motion."""

    scene: str
    losses: Mapping[str, float]


def motions(simulator: FastSimulator, seed: int, split: str, name: str) -> dict[str, Clip]:
    """One scene with its fall (``true``), slower, faster, floating and upward, in that order.

    Frame 0 is the same in all. ``slower`` and ``faster`` show the same path at half and at twice
    the speed; in ``upward`` the dropping objects fall to the sky.
    """
    frames, fps = simulator.num_frames, simulator.fps_hz
    scene, _ = draw_moving_scene(simulator.prior, seed, split, simulator.resolution, frames, fps)
    fastest, rate = max(SPEEDS.values()), scene.step_hz
    fine = simulate_fall(scene, round(fastest * (frames - 1) * rate / fps) + 1, rate).poses
    moving: dict[str, Poses] = {}
    for label, speed in SPEEDS.items():
        at = torch.arange(frames) * speed * rate / fps
        moving[label] = _at(fine, at.round().long())
    moving["floating"] = _at(fine, torch.zeros(frames, dtype=torch.long))
    moving["upward"] = _upward(moving[TRUE], [thing.dropping for thing in scene.objects])
    contacts = tuple(None for thing in scene.objects if thing.dropping)
    return {
        label: simulator.clip_of(scene, Motion(poses, contacts), f"{name}.{label}")
        for label, poses in moving.items()
    }


def choose(
    model: VideoModel,
    spec: DataSetSpec,
    count: int,
    *,
    num_frames: int | None,
    caption: str | None,
    num_levels: int,
    seed: int,
    device: torch.device,
) -> Iterator[Choice]:
    """Losses of the first ``count`` scenes of a data set.

    Raises ``PisaError`` where its clips are not simulated by the fast renderer.
    """
    if not isinstance(spec.simulator, FastSimulator):
        raise PisaError("forced_choice renders its own clips: it needs simulation=fast")
    for index in range(min(count, spec.num_clips)):
        name = spec.clip_name(index)
        clips = motions(spec.simulator, spec.first_seed + index, spec.split, name)
        batch = collate(list(clips.values())).to(device)
        batch = batch.frames(slice(num_frames))
        losses = denoising_losses(model, batch, caption, num_levels, (seed, name))
        yield Choice(name, dict(zip(clips, losses.tolist(), strict=True)))


@torch.no_grad()
def denoising_losses(
    model: VideoModel,
    batch: Batch,
    caption: str | None,
    num_levels: int,
    stream: tuple[int | str, ...],
) -> Float[Tensor, " b"]:
    """Velocity error of each clip, the mean over evenly spread noise levels (shifted as sampled).

    All clips get the same noise, so that they differ in their motion only.
    """
    frames, height, width = batch.video.shape[2:]
    latents = model.encode(batch.video)
    captions = batch.captions if caption is None else [caption] * len(batch)
    condition = model.with_first_frame(model.encode_captions(captions), batch.first_frame, frames)
    given = model.given_frames(latents)
    spread = (torch.arange(num_levels) + 0.5) / num_levels
    levels = shift_noise_level(spread, model.noise_schedule_shift(frames, height, width))
    generator = generator_of(*stream)
    losses = torch.zeros(len(batch), device=latents.device)
    for level in levels.tolist():
        noise = torch.randn(1, *latents.shape[1:], generator=generator).to(latents)
        noise = noise.expand_as(latents)
        s = torch.full((len(batch),), level, device=latents.device)
        x = blend_clean(interpolate(latents, noise, s), latents, given)
        velocity = model.velocity(x, s, condition, given, fps_hz=batch.fps_hz)
        losses += velocity_loss(velocity, velocity_target(latents, noise), given) / num_levels
    return losses


def preferred(choices: Sequence[Choice], seed: int) -> dict[str, dict[str, Any]]:
    """For each impossible motion, the share of scenes whose true fall has the lower loss.

    A tie counts half. Chance is 0.5; intervals are over scenes.
    """
    table = {}
    for label in IMPOSSIBLE:
        losses = np.array([[c.losses[TRUE], c.losses[label]] for c in choices])
        won = (losses[:, 0] < losses[:, 1]) + 0.5 * (losses[:, 0] == losses[:, 1])
        interval = bootstrap_ci(won, seed)
        table[label] = {"share": interval.mean, "ci95": [interval.lo, interval.hi]}
    return table


def _at(poses: Poses, index: Tensor) -> Poses:
    return Poses(poses.position_m[index], poses.quaternion[index])


def _upward(poses: Poses, dropping: Sequence[bool]) -> Poses:
    position = poses.position_m.clone()
    falls = torch.tensor(dropping)
    position[:, falls, 2] = 2 * position[:1, falls, 2] - position[:, falls, 2]
    return Poses(position, poses.quaternion)
