"""What a base video model must offer; PSFT, ORO, sampling and evaluation use nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
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


@runtime_checkable
class TakesFirstFrame(Protocol):
    """A ``VideoModel`` that is told its first frame beside the latents.

    ``first_frame_in_latents``: whether latent frame 0 is given clean as well (Wan 2.2 5B, LTX);
    otherwise it is generated like the others (CogVideoX, Wan 2.1, SVD).
    """

    @property
    def first_frame_in_latents(self) -> bool: ...

    def with_first_frame(
        self, condition: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        """The condition with ``image`` filled in. Without gradient to the frame."""
        ...

    def null_beside(
        self, prompt: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        """The null condition beside a prompt with the same first frame (and the same draws)."""
        ...


@runtime_checkable
class HasSchedule(Protocol):
    """A ``VideoModel`` whose sampling has noise levels, start and end of its own."""

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """``num_steps + 1`` descending noise levels."""
        ...

    def initial_latents(
        self, noise: Float[Tensor, "b c f i j"], level: float, condition: Condition
    ) -> Float[Tensor, "b c f i j"]:
        """The point at the first noise level that stands for pure noise."""
        ...

    def final_latents(
        self, x: Float[Tensor, "b c f i j"], level: float
    ) -> Float[Tensor, "b c f i j"]:
        """What is decoded, from the point at the last noise level."""
        ...

    def guidance_weight(self, guidance: float, num_frames: int) -> float | Tensor:
        """Weight of the prompt's velocity against the null prompt's, a number or [f, 1, 1]."""
        ...


@runtime_checkable
class GuidesItself(Protocol):
    """A ``VideoModel`` whose guidance is more than a scale against the null prompt."""

    def guided_velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        prompt: Condition,
        null: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
        guidance: float,
    ) -> Float[Tensor, "b c f i j"]:
        """The velocity to follow; not called for a guidance of 1, which turns all terms off."""
        ...


def with_first_frame(
    model: VideoModel,
    condition: Condition,
    first_frame: Float[Tensor, "b 3 h w"],
    num_frames: int,
) -> Condition:
    """The condition, told the first frame where the model wants it."""
    if not isinstance(model, TakesFirstFrame):
        return condition
    return model.with_first_frame(condition, first_frame, num_frames)


def given_frames(model: VideoModel, x: Float[Tensor, "b c f i j"]) -> Bool[Tensor, "b f"]:
    """Which latent frames are given clean: the first, or none where the model generates it too."""
    given = torch.zeros(x.shape[0], x.shape[2], dtype=torch.bool, device=x.device)
    given[:, 0] = not isinstance(model, TakesFirstFrame) or model.first_frame_in_latents
    return given
