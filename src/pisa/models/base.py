"""The base class of video models: all that training, sampling and scoring use of one.

The abstract methods are what every model must have. The others are abilities that some models
have, with the default of a plain rectified flow over latents whose first frame is given clean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.samplers import guided_velocity
from pisa.errors import PisaError
from pisa.types import Condition


class VideoModel(nn.Module, ABC):
    """An image-to-video rectified-flow model over latents ``[B, C, F, h, w]``.

    ``denoiser`` is the trainable network; codec and text encoder are frozen. Every method is
    differentiable in its tensor inputs unless it says otherwise.
    """

    denoiser: nn.Module
    sample_posterior: bool = False  # ``encode`` draws its latents at random
    first_frame_in_latents: bool = True  # latent frame 0 is given clean, not generated
    straight_path: bool = True  # sampling follows x_s = (1 - s) x_0 + s noise exactly

    # ------------------------------------------------------------------------- latents

    @abstractmethod
    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        """Latents of a clip in [-1, 1]; latent frame 0 is the conditioning frame."""

    @abstractmethod
    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        """Latent of the first frame encoded alone (as ORO and inference do)."""

    @abstractmethod
    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clips, nominally in [-1, 1], not clamped."""

    @abstractmethod
    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """``(C, F, h, w)`` of the latents of a clip of that size."""

    def codec_fingerprint(self) -> str:
        """A digest that changes with the codec's weights and settings, and with nothing else.

        Raises:
            PisaError: the model has none, so its latents cannot be kept on disk.
        """
        name = type(self).__name__
        raise PisaError(f"latent_cache_dir needs a model with codec_fingerprint(); {name} has none")

    def given_frames(self, x: Float[Tensor, "b c f i j"]) -> Bool[Tensor, "b f"]:
        """Latent frames that are given clean: the first, or none."""
        given = torch.zeros(x.shape[0], x.shape[2], dtype=torch.bool, device=x.device)
        given[:, 0] = self.first_frame_in_latents
        return given

    # ------------------------------------------------------------------------- conditions

    @abstractmethod
    def encode_captions(self, captions: Sequence[str]) -> Condition:
        """Token embeddings of the captions, on the model's device."""

    @abstractmethod
    def null_condition(self, batch_size: int) -> Condition:
        """The condition of the null prompt used by classifier-free guidance."""

    def prepare_captions(self, captions: Sequence[str]) -> None:
        """Embed captions ahead of time, for models that keep embeddings on disk."""

    def with_first_frame(
        self, condition: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        """The condition with what the model takes of the first frame beside the latents.

        Without gradient to the frame.
        """
        return condition

    def null_beside(
        self, prompt: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition | None:
        """The null condition beside a prompt with the same first frame (and the same draws).

        None: ``null_condition``, computed again in every step, since it may be trained.
        """
        return None

    # ------------------------------------------------------------------------- velocity

    @abstractmethod
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

    def velocity_and_displacement(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> tuple[Float[Tensor, "b c f i j"], Float[Tensor, "b 2 t h w"] | None]:
        """The velocity, and (x, y) in pixels from each pixel of the clip to its place in frame 0.

        None where the model predicts no such displacement.
        """
        return self.velocity(x, noise_level, condition, clean_frames, fps_hz=fps_hz), None

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
        both, twice = _stacked(prompt, null), clean_frames.repeat(2, 1)
        return guided_velocity(
            lambda x, s: self.velocity(x, s, both, twice, fps_hz=fps_hz),
            self.guidance_weight(guidance, clean_frames.shape[1]),
        )(x, noise_level)

    def guidance_weight(self, guidance: float, num_frames: int) -> float | Tensor:
        """Weight of the prompt's velocity against the null prompt's, a number or [f, 1, 1]."""
        return guidance

    # ------------------------------------------------------------------------- schedule

    @abstractmethod
    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        """``r`` of the timestep transform ``s' = r s / (1 + (r - 1) s)`` for that clip size."""

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """``num_steps + 1`` descending noise levels."""
        shift = self.noise_schedule_shift(num_frames, height, width)
        return inference_noise_levels(num_steps, shift)

    def initial_latents(
        self, noise: Float[Tensor, "b c f i j"], level: float, condition: Condition
    ) -> Float[Tensor, "b c f i j"]:
        """The point at the first noise level that stands for pure noise."""
        return noise

    def final_latents(
        self, x: Float[Tensor, "b c f i j"], level: float
    ) -> Float[Tensor, "b c f i j"]:
        """The latents to decode, from the point at the last noise level."""
        return x

    def place(self, device: torch.device) -> None:
        """Put the model where it generates; some models offload parts of themselves."""
        self.to(device)


def _stacked(prompt: Condition, null: Condition) -> Condition:
    """Prompt rows, then null rows; a null row with an empty mask takes that of its prompt."""
    null_mask = torch.where(null.mask.any(dim=1, keepdim=True), null.mask, prompt.mask)
    filled_in = None if null.null is None else torch.cat([torch.zeros_like(null.null), null.null])
    return Condition(
        torch.cat([prompt.embedding, null.embedding]),
        torch.cat([prompt.mask, null_mask]),
        filled_in,
        {name: torch.cat([rows, null.image[name]]) for name, rows in prompt.image.items()},
    )
