"""What a base video model must offer; PSFT, ORO, sampling and evaluation use nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.types import Condition


@runtime_checkable
class VideoModel(Protocol):
    """An image-to-video rectified-flow model over latents ``[B, C, F, h, w]``.

    Implementations are ``nn.Module``s that hold the trainable network as ``denoiser`` and keep
    codec and text encoder frozen. Every method is differentiable in its tensor inputs.
    """

    denoiser: nn.Module

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        """Latents of a clip in [-1, 1]; latent frame 0 is the conditioning frame."""
        ...

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        """Latent of the first frame encoded alone (as ORO and inference do)."""
        ...

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clips, nominally in [-1, 1], not clamped."""
        ...

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """``(C, F, h, w)`` of the latents of a clip of that size."""
        ...

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        """Token embeddings of the captions, on the model's device."""
        ...

    def null_condition(self, batch_size: int) -> Condition:
        """The condition of the null prompt used by classifier-free guidance."""
        ...

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        """``noise - x_0`` at noise level s in [0, 1]; ``clean_frames`` are given clean."""
        ...

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        """``r`` of the timestep transform ``s' = r s / (1 + (r - 1) s)`` for that clip size."""
        ...
