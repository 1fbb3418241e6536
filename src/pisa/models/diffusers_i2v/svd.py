"""Stable Video Diffusion (arXiv:2311.15127): EDM noise, v-prediction, no text.

The condition's embedding is one number, 1 for the picture and 0 for the null condition, which
multiplies all that the network is told of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.models.diffusers_i2v.base import (
    DiffusersModel,
    every_token,
    level_of_sigma,
    to_images,
    velocity_of_v,
)
from pisa.types import Condition

MAX_SIGMA = 700.0  # of training
CLIP_DECODE = 14  # frames that the temporal decoder takes at a time


class StableVideoDiffusion(DiffusersModel):
    """``VideoModel`` over SVD and SVD-XT.

    ``motion_bucket`` and ``image_noise`` are the micro-conditions of the model card; guidance rises
    linearly over the frames from 1 to the given scale.
    """

    pipeline_class = "StableVideoDiffusionPipeline"
    denoiser_name = "unet"

    def __init__(
        self,
        pipe: object,
        *,
        motion_bucket: int = 127,
        image_noise: float = 0.02,
        decode_frames: int = CLIP_DECODE,
        fps_hz: float | None = None,
        **options: object,
    ) -> None:
        super().__init__(pipe, **options)  # type: ignore[arg-type]
        self.motion_bucket = motion_bucket
        self.image_noise = image_noise
        self.decode_frames = decode_frames
        self.told_fps_hz = fps_hz

    def factors(self) -> tuple[int, int, int]:
        return (
            self.pipe.vae_scale_factor,
            1,
            2 ** (len(self.denoiser_config.block_out_channels) - 1),
        )

    def latent_channels(self) -> int:
        return int(self.denoiser_config.out_channels)

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        """SVD reads no captions."""
        return every_token(torch.ones(len(captions), 1, 1, device=self.device))

    def null_condition(self, batch_size: int) -> Condition:
        return every_token(torch.zeros(batch_size, 1, 1, device=self.device))

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(num_steps)
        return level_of_sigma(scheduler.sigmas.double()).float().cpu()

    def initial_latents(self, noise: Tensor, level: float, condition: Condition) -> Tensor:
        return noise * (float(self.pipe.scheduler.init_noise_sigma) * (1 - level))

    def guidance_weight(self, guidance: float, num_frames: int) -> Tensor:
        return torch.linspace(1.0, guidance, num_frames)[:, None, None]

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        level = noise_level.clamp(1e-5, MAX_SIGMA / (1 + MAX_SIGMA))
        timestep = 0.25 * (level / (1 - level)).log()
        told = repeat(condition.image["latent"], "b c i j -> b f c i j", f=x.shape[2])
        fps = (self.told_fps_hz or fps_hz) - 1  # SVD was trained so
        ids = x.new_tensor([fps, self.motion_bucket, self.image_noise])

        def predict(z: Tensor) -> Tensor:
            both = torch.cat([rearrange(z, "b c f i j -> b f c i j"), told.to(z)], dim=2)
            output = self.denoiser(
                both.to(self.dtype),
                timestep,
                encoder_hidden_states=condition.image["embedding"].to(self.dtype),
                added_time_ids=ids.expand(len(z), -1).to(self.dtype),
                return_dict=False,
            )[0]
            return rearrange(output.float(), "b f c i j -> b c f i j")

        return velocity_of_v(x, level, predict)

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        rows = rearrange(self.denormalise(latents), "b c f i j -> (b f) c i j")
        parts = [
            self.vae.decode(part.to(self.vae.dtype), num_frames=len(part)).sample
            for part in rows.split(self.decode_frames)
        ]
        return rearrange(torch.cat(parts).float(), "(b f) c h w -> b c f h w", b=len(latents))

    def posterior(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t i j"]:
        frames = rearrange(video, "b c t h w -> (b t) c h w")
        latents = self._draw(self.vae.encode(frames))
        return rearrange(latents, "(b t) c i j -> b c t i j", b=len(video))

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        with self.visiting("image_encoder"):
            embedding = self.pipe._encode_image(to_images(first_frame), self.device, 1, False)
        noisy = first_frame + self.image_noise * torch.randn_like(first_frame)
        latent = self.vae.encode(
            noisy.to(self.vae.dtype)
        ).latent_dist.mode()  # not scaled: as trained
        present = condition.embedding[:, 0, 0].float()
        return {
            "embedding": embedding.float() * present[:, None, None],
            "latent": latent.float() * present[:, None, None, None],
        }

    def null_beside(
        self, prompt: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        null = self.null_condition(len(prompt.mask))
        zeros = {name: torch.zeros_like(rows) for name, rows in prompt.image.items()}
        return Condition(null.embedding, null.mask, image=zeros)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        if num_frames < 2:
            raise PisaError(f"SVD makes videos of at least 2 frames, not {num_frames}")
        return super().latent_shape(num_frames, height, width)
