"""The tiny base model: a small transformer that denoises pixels, without a codec.

The same interface and flow convention as Open-Sora v1.2; 64x64 pixels, 16 frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.io.weights import load
from pisa.models.base import VideoModel
from pisa.models.tiny_denoiser import CHANNELS, TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.ranges import Positive
from pisa.types import Condition

MIN_LEVEL = 0.1  # the velocity (x - x_0) / s is bounded below this noise level


class TinyVideoModel(VideoModel):
    """``VideoModel`` at tiny scale. Its latents are pixels: frame 0, then differences to frame 0.

    ``weights`` names a safetensors file with ``denoiser.*`` tensors: a path, or the bare name of a
    file shipped in ``pisa/weights``; None leaves the network as it is drawn. ``shift`` is ``r`` of
    the timestep transform; pixels need a larger one than latents, because neighbouring pixels
    average the noise away.
    """

    denoiser: TinyDenoiser

    def __init__(
        self,
        denoiser: TinyDenoiser,
        text: WordHashEncoder,
        weights: str | Path | None = None,
        shift: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text = text
        self.shift = shift
        if weights is not None:
            load(denoiser, weights, "denoiser")

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
        first = video[:, :, :1]
        return torch.cat([first, video[:, :, 1:] - first], dim=2)

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 1 h w"]:
        return frame[:, :, None]

    def decode(
        self, latents: Float[Tensor, "b 3 f h w"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        if latents.shape[2] != num_frames:
            raise ValueError(f"{latents.shape[2]} latent frames decode to as many frames")
        first = latents[:, :, :1]
        return torch.cat([first, latents[:, :, 1:] + first], dim=2)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        return CHANNELS, num_frames, height, width

    def codec_fingerprint(self) -> str:
        return "pixels"

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        condition = self.text(captions)
        device = next(self.denoiser.parameters()).device
        return Condition(condition.embedding.to(device), condition.mask.to(device))

    def null_condition(self, batch_size: int) -> Condition:
        """Rows that the denoiser fills in: its null prompt is trained, and may be sharded."""
        shape, device = self.denoiser.null_caption.shape, self.denoiser.null_caption.device
        embedding = torch.zeros(batch_size, *shape, device=device)
        mask = torch.ones(batch_size, shape[0], dtype=torch.bool, device=device)
        return Condition(embedding, mask, mask[:, 0])

    def velocity_and_displacement(
        self,
        x: Float[Tensor, "b c t i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b t"],
        *,
        fps_hz: float,
    ) -> tuple[Float[Tensor, "b c t i j"], Float[Tensor, "b 2 t i j"]]:
        predicted = self.denoiser(
            x, noise_level, condition.embedding, condition.mask, condition.null
        )
        level = noise_level.clamp(min=MIN_LEVEL)
        velocity = (x - predicted.clean) / rearrange(level, "b -> b 1 1 1 1")
        return velocity, predicted.displacement_px

    def velocity(
        self,
        x: Float[Tensor, "b c t i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b t"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c t i j"]:
        return self.velocity_and_displacement(
            x, noise_level, condition, clean_frames, fps_hz=fps_hz
        )[0]

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return self.shift
