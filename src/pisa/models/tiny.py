"""The tiny base model: a small transformer over the latents of a small convolutional codec.

The same interface and flow convention as Open-Sora v1.2; 64x64 pixels, 16 frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.io.weights import load, module_sha256
from pisa.models.base import VideoModel
from pisa.models.tiny_codec import STRIDE, TinyCodec
from pisa.models.tiny_denoiser import TinyDenoiser
from pisa.models.tiny_text import WordHashEncoder
from pisa.ranges import Positive
from pisa.types import Condition

MIN_LEVEL = 0.1  # the velocity (x - x_0) / s is bounded below this noise level


class TinyVideoModel(VideoModel):
    """``VideoModel`` at tiny scale; ``denoiser`` is trainable, ``codec`` frozen.

    ``weights`` names a safetensors file with ``denoiser.*`` and ``codec.*`` tensors: a path, or
    the bare name of a file shipped in ``pisa/weights``. ``parts`` says which of the two to load.
    ``shift`` is ``r`` of the timestep transform.
    """

    denoiser: TinyDenoiser

    def __init__(
        self,
        codec: TinyCodec,
        denoiser: TinyDenoiser | None,
        text: WordHashEncoder,
        weights: str | Path | None = None,
        parts: Sequence[str] = ("codec", "denoiser"),
        shift: Positive = 1.0,
    ) -> None:
        super().__init__()
        if denoiser is None:  # what means random weights in configs/model/opensora.yaml
            raise PisaError(
                "the tiny model's denoiser has no settings; for random weights of it write "
                "model.parts=[codec] instead of model.denoiser=null"
            )
        self.codec = codec
        self.denoiser = denoiser
        self.text = text
        self.shift = shift
        if weights is not None:
            for part in parts:
                load(getattr(self, part), weights, part)
        self.codec.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TinyVideoModel:
        super().train(mode)
        self.codec.eval()
        return self

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t i j"]:
        return self.codec.encode(video)

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        return self.codec.encode(frame[:, :, None])

    def decode(
        self, latents: Float[Tensor, "b c t i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        if latents.shape[2] != num_frames:
            raise ValueError(f"{latents.shape[2]} latent frames decode to as many frames")
        return self.codec.decode(latents)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        if height % STRIDE or width % STRIDE:
            raise PisaError(f"the tiny model needs sizes divisible by 4, not {height}x{width}")
        return (
            self.codec.latent_channels,
            num_frames,
            height // STRIDE,
            width // STRIDE,
        )

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

    def velocity(
        self,
        x: Float[Tensor, "b c t i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b t"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c t i j"]:
        clean = self.denoiser(x, noise_level, condition.embedding, condition.mask, condition.null)
        level = noise_level.clamp(min=MIN_LEVEL)
        return (x - clean) / rearrange(level, "b -> b 1 1 1 1")

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return self.shift

    def codec_fingerprint(self) -> str:
        below = self.codec.motion.still_below
        return module_sha256(self.codec, "tiny", *(() if below is None else (below,)))
