"""What ORO generates: clips by the model's sampler, from starts that fix every draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pisa.diffusion.replay import Replay
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise
from pisa.tasks.latents import CaptionEncoder, LatentEncoder
from pisa.tasks.rectified_flow import BatchSlice
from pisa.types import Batch


class ChainStart(NamedTuple):
    """What the sampler starts from."""

    noise: Float[Tensor, "b c f i j"]
    first_latent: Float[Tensor, "b c 1 i j"] | None = None  # None: encoded when it is needed


class Rollout:
    """Generates clips that continue the first frames of a batch; arguments: see ``ORO``."""

    def __init__(
        self,
        model: VideoModel,
        conditions: CaptionEncoder,
        latents: LatentEncoder,
        num_steps: int,
        guidance: float,
        checkpoint_steps: bool,
        decode_chunk: int | None,
    ) -> None:
        self._model = model
        self._conditions = conditions
        self._latents = latents
        self._num_steps = num_steps
        self._guidance = guidance
        self._checkpoint_steps = checkpoint_steps
        self._decode_chunk = decode_chunk

    def __call__(
        self,
        batch: Batch,
        start: ChainStart,
        grad_steps: Sequence[int],
        replay: Replay | None = None,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clips as long as those of ``batch``; see ``generate``."""
        return generate(
            self._model,
            batch.first_frame,
            self._conditions(batch.captions, batch.video.device),
            num_frames=batch.video.shape[2],
            fps_hz=batch.fps_hz,
            num_steps=self._num_steps,
            guidance=self._guidance,
            noise=start.noise.to(batch.video),
            checkpoint_steps=self._checkpoint_steps,
            grad_steps=grad_steps,
            replay=replay,
            decode_chunk=self._decode_chunk,
            first_latent=start.first_latent,
        )

    def start(
        self,
        batch: Batch,
        part: BatchSlice,
        stream: Sequence[int | str],
        generator: torch.Generator,
    ) -> ChainStart:
        """Of a training step: drawn for the global batch and cut (see ``BatchSlice``)."""
        noise = torch.randn(part.total, *self._latent_shape(batch), generator=generator)
        rows = range(part.first, part.first + part.size)
        first = self._latents.first(batch.first_frame, [(*stream, row) for row in rows])
        return ChainStart(part.cut(noise), first)

    def start_of_clips(self, batch: Batch, seed: int) -> ChainStart:
        """Of validation: drawn by clip name, so that epochs compare."""
        noise = clip_noise(batch.names, seed, self._latent_shape(batch))
        streams = [(seed, "clip", name) for name in batch.names]
        return ChainStart(noise, self._latents.first(batch.first_frame, streams))

    def _latent_shape(self, batch: Batch) -> tuple[int, int, int, int]:
        frames, height, width = batch.video.shape[2:]
        return self._model.latent_shape(frames, height, width)
