"""LTX-Video image-to-video (arXiv:2501.00103): latent frame 0 is given clean, at timestep 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.models.diffusers_i2v.base import TIMESTEPS, DiffusersModel
from pisa.types import Condition


class LTXVideo(DiffusersModel):
    """``VideoModel`` over LTX-Video.

    ``decode_timestep`` and ``decode_noise`` are for decoders that denoise (0.9.1 and later).
    """

    pipeline_class = "LTXImageToVideoPipeline"
    first_frame_in_latents = True

    def __init__(
        self,
        pipe: Any,
        *,
        max_tokens: int = 128,
        decode_timestep: float = 0.05,
        decode_noise: float = 0.025,
        **options: Any,
    ) -> None:
        super().__init__(pipe, max_tokens=max_tokens, **options)
        self.decode_timestep, self.decode_noise = decode_timestep, decode_noise

    def factors(self) -> tuple[int, int, int]:
        pipe = self.pipe
        return pipe.vae_spatial_compression_ratio, pipe.vae_temporal_compression_ratio, 1

    def latent_channels(self) -> int:
        return int(self.denoiser_config.in_channels)

    def normalise(self, latents: Tensor) -> Tensor:
        mean, std, _ = self.statistics()
        normalised: Tensor = self.pipe._normalize_latents(latents, mean, std)
        return normalised

    def denormalise(self, latents: Tensor) -> Tensor:
        raw: Tensor = self.pipe._denormalize_latents(latents, *self.statistics())
        return raw

    def statistics(self) -> tuple[Tensor, Tensor, float]:
        """Mean and standard deviation of each latent channel, and the scale of all."""
        return self.vae.latents_mean, self.vae.latents_std, self.vae.config.scaling_factor

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        raw, timestep = self.denormalise(latents).to(self.vae.dtype), None
        if self.vae.config.timestep_conditioning:
            timestep = raw.new_full((len(raw),), self.decode_timestep)
            raw = torch.lerp(raw, torch.randn_like(raw), self.decode_noise)
        video: Tensor = self.vae.decode(raw, timestep, return_dict=False)[0]
        return video.float()

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """Shifted by the number of tokens, as the pipeline does."""
        _, frames, rows, columns = self.latent_shape(num_frames, height, width)
        tokens = frames * rows * columns
        return shifted_levels(self.pipe.scheduler, tokens, num_steps, (256, 4096, 0.5, 1.15))

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        frames, rows, columns = x.shape[2:]
        noisy = repeat((~clean_frames).float(), "b f -> b (f n)", n=rows * columns)
        space, time, _ = self.factors()
        output = self.denoiser(
            hidden_states=rearrange(x, "b c f i j -> b (f i j) c").to(self.dtype),
            encoder_hidden_states=condition.embedding.to(self.dtype),
            timestep=noisy * (noise_level * TIMESTEPS)[:, None],
            encoder_attention_mask=condition.mask,
            num_frames=frames,
            height=rows,
            width=columns,
            rope_interpolation_scale=(time / fps_hz, space, space),
            return_dict=False,
        )[0]
        return rearrange(output.float(), "b (f i j) c -> b c f i j", f=frames, i=rows, j=columns)

    def _embed(self, captions: list[str]) -> Condition:
        embedding, mask, *_ = self.pipe.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            device=self.device,
        )
        return Condition(embedding, mask.bool())


def shifted_levels(
    scheduler: Any, tokens: int, num_steps: int, defaults: tuple[float, float, float, float]
) -> Float[Tensor, " n"]:
    """A flow-matching scheduler's levels, shifted by the number of tokens.

    ``defaults`` are the least and the greatest number of tokens and the shifts that belong to them,
    where the scheduler names none.
    """
    from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    limits = [scheduler.config.get(n, given) for n, given in zip(names, defaults, strict=True)]
    mu = calculate_shift(tokens, *limits)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu)
    levels: Tensor = scheduler.sigmas.float().cpu().clone()
    return levels
