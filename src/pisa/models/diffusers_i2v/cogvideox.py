"""CogVideoX image-to-video (arXiv:2408.06072): v-prediction, sampled by DDIM (paper Table 4).

The latent of the first frame is concatenated to the noisy latents, zeros for the other frames.

The VAE decodes latent frames by twos, the odd one first; from an even number it makes 4 frames of
the first, which is 1 frame of the clip. So clips have 8 k + 1 frames.

Version 1.5 sees latent frames in pairs (``patch_size_t``). They are odd in number, so one more
stands in front: a copy of the first in training, as its authors pad, and made and dropped when it
generates, as the pipeline does.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.models.diffusers_i2v.base import DiffusersModel, level_of_alpha, velocity_of_v
from pisa.types import Condition

OFS = 2.0  # a number that 1.5 is told beside the timestep; the pipeline's only value


class CogVideoX(DiffusersModel):
    """``VideoModel`` over CogVideoX-5B-I2V and CogVideoX1.5-5B-I2V."""

    pipeline_class = "CogVideoXImageToVideoPipeline"

    def takes_first_frame(self) -> bool:
        return bool(self.denoiser_config.in_channels == 2 * self.vae.config.latent_channels)

    def frame_step(self) -> int:
        return 2 * int(self.pipe.vae_scale_factor_temporal)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        channels, frames, rows, columns = super().latent_shape(num_frames, height, width)
        return channels, frames + self._padding(frames), rows, columns

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        latents = super().encode(video)
        copies = [latents[:, :, :1]] * self._padding(latents.shape[2])
        return torch.cat([*copies, latents], dim=2)

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        return super().encode(frame[:, :, None])

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        kept = (num_frames - 1) // self.pipe.vae_scale_factor_temporal + 1
        return super().decode(latents[:, :, -kept:], num_frames)

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """Those of DDIM without added noise."""
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(num_steps)
        steps = scheduler.timesteps.cpu().long()
        alphas = torch.cat(
            [scheduler.alphas_cumprod[steps], scheduler.final_alpha_cumprod.reshape(1)]
        )
        return level_of_alpha(alphas.double()).float()

    def initial_latents(self, noise: Tensor, level: float, condition: Condition) -> Tensor:
        """DDIM starts from standard normal noise even where the first level is below 1."""
        return noise * ((1 - level) ** 2 + level**2) ** 0.5

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        first = condition.image["first_latent"]
        padded = torch.cat([first, first.new_zeros(*x.shape[:2], x.shape[2] - 1, *x.shape[3:])], 2)
        timestep = self._timesteps(noise_level)
        space = self.pipe.vae_scale_factor_spatial
        ofs = x.new_full((1,), OFS) if self.denoiser_config.ofs_embed_dim else None
        rotary = None
        if self.denoiser_config.use_rotary_positional_embeddings:
            sides = x.shape[3] * space, x.shape[4] * space
            rotary = self.pipe._prepare_rotary_positional_embeddings(*sides, x.shape[2], x.device)

        def predict(z: Tensor) -> Tensor:
            both = rearrange(torch.cat([z, padded.to(z)], dim=1), "b c f i j -> b f c i j")
            output = self.denoiser(
                hidden_states=both.to(self.dtype),
                encoder_hidden_states=condition.embedding.to(self.dtype),
                timestep=timestep,
                ofs=ofs,
                image_rotary_emb=rotary,
                return_dict=False,
            )[0]
            return rearrange(output.float(), "b f c i j -> b c f i j")

        return velocity_of_v(x, noise_level, predict)

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        raw = self.posterior(first_frame[:, :, None].to(self.vae.dtype)).float()
        scale = self.vae.config.scaling_factor
        inverted = self.vae.config.invert_scale_latents  # a slip of the training, kept by 1.5
        return {"first_latent": raw / scale if inverted else raw * scale}

    def _padding(self, frames: int) -> int:
        """Latent frames that are missing to a whole number of pairs; version 1.0 needs none."""
        return -frames % (self.denoiser_config.patch_size_t or 1)

    def _timesteps(self, noise_level: Float[Tensor, " b"]) -> Tensor:
        """The trained timestep nearest to each level; they are whole numbers."""
        alphas = self.pipe.scheduler.alphas_cumprod.to(noise_level.device, torch.float64)
        levels = level_of_alpha(alphas)
        return (levels[None] - noise_level.double()[:, None]).abs().argmin(dim=1)
