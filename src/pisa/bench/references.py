"""Where scored videos come from: a model, and the pseudo models truth, frozen and codec."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.samplers import Ancestral, Euler
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise
from pisa.ranges import Count, Fraction, NonNegative
from pisa.rewards.base import Reward, rewards_of
from pisa.types import Batch


class VideoSource(Protocol):
    """Makes videos that continue the first frames of a batch."""

    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        """Videos in [-1, 1] of the batch's length; equal for equal clips and seeds."""
        ...


def frozen_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``frozen``: the first frame held."""
    return repeat(batch.first_frame, "b c h w -> b c t h w", t=batch.video.shape[2])


def true_video(batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
    """Pseudo model ``truth``: the clip itself; its errors are the tracker's."""
    return batch.video


REFERENCES: dict[str, VideoSource] = {"truth": true_video, "frozen": frozen_video}


class CodecVideos:
    """Pseudo model ``codec``: the clip encoded and decoded, as a perfect denoiser would make it."""

    def __init__(self, model: VideoModel, bfloat16: bool = False) -> None:
        self.model, self.bfloat16 = model, bfloat16

    @torch.no_grad()
    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        length = batch.video.shape[2]
        with _arithmetic(batch, self.bfloat16):
            video = self.model.decode(self.model.encode(batch.video), length)
        return video.float().clamp(-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the videos of a model are sampled."""

    num_steps: Count = 30  # release: 30 for its tables, 10 in validation
    guidance: NonNegative = 7.0  # classifier-free guidance; release: 7.0, and 4.0 in validation
    eta: Fraction = 0.0  # above 0: fresh noise in each step (``Ancestral``)
    caption: str | None = None  # replaces the clips' own captions
    caption_suffix: str = ""  # appended to every caption; release: " aesthetic score: 6.5."
    decode_chunk: Count | None = None  # clips decoded at once; None: the whole batch
    bfloat16: bool = False  # arithmetic by autocast; the weights keep their type


VALIDATION = Sampling(num_steps=10, guidance=4.0)  # of the release


class ModelSource:
    """Videos of a model; all noise belongs to (seed, clip name), not to the batch.

    ``num_frames`` are generated where a clip has fewer, as real ones may, and cut to the clip's
    length; None generates as many as the clip has.
    """

    def __init__(
        self, model: VideoModel, sampling: Sampling, num_frames: int | None = None
    ) -> None:
        self.model, self.sampling, self.num_frames = model, sampling, num_frames

    @torch.no_grad()
    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        chosen, (length, height, width) = self.sampling, batch.video.shape[2:]
        frames = max(length, self.num_frames or 0)
        shape = self.model.latent_shape(frames, height, width)
        captions = batch.captions if chosen.caption is None else [chosen.caption] * len(batch)

        def fresh(step: int) -> Tensor:
            names = [f"{name}.step{step}" for name in batch.names]
            return clip_noise(names, seed, shape).to(batch.video)

        with _arithmetic(batch, chosen.bfloat16):
            video = generate(
                self.model,
                batch.first_frame,
                [caption + chosen.caption_suffix for caption in captions],
                num_frames=frames,
                fps_hz=batch.fps_hz,
                num_steps=chosen.num_steps,
                guidance=chosen.guidance,
                noise=clip_noise(batch.names, seed, shape).to(batch.video),
                decode_chunk=chosen.decode_chunk,
                sampler=Ancestral(chosen.eta, fresh) if chosen.eta else Euler(),
            )[:, :, :length].float()
        # NaN and infinity are kept, so that the scorer reports the clip as a failure
        return torch.where(video.isfinite(), video.clamp(-1.0, 1.0), video)


class BestOf:
    """The best of ``count`` videos of ``source`` by a reward: post-training without training.

    Seeds do not overlap: seed s chooses among the videos of seeds ``count * s`` to
    ``count * s + count - 1``. A video whose reward is not a number is never preferred.
    """

    def __init__(self, source: VideoSource, reward: Reward, count: Count) -> None:
        self.source, self.reward, self.count = source, reward, count

    @torch.no_grad()
    def __call__(self, batch: Batch, seed: int) -> Float[Tensor, "b 3 t h w"]:
        best = self.source(batch, self.count * seed)
        highest = rewards_of(self.reward, best, batch)
        for other in range(1, self.count):
            video = self.source(batch, self.count * seed + other)
            reward = rewards_of(self.reward, video, batch)
            better = (reward > highest) | (highest.isnan() & ~reward.isnan())
            best = torch.where(better.view(-1, 1, 1, 1, 1), video, best)
            highest = torch.where(better, reward, highest)
        return best


def _arithmetic(batch: Batch, bfloat16: bool) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 (the release casts the weights too), or the arithmetic in force."""
    device = batch.video.device.type
    return torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext()
