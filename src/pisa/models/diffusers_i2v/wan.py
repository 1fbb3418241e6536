"""Wan image-to-video (arXiv:2503.20314): 2.1 14B, 2.2 A14B (two experts) and 2.2 TI2V 5B.

2.1 and A14B are told the first frame by concatenated latents and a mask (2.1 by CLIP as well); the
5B model is given latent frame 0 clean, at timestep 0.
"""

from __future__ import annotations

import html
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.models.diffusers_i2v.base import TIMESTEPS, DiffusersModel, every_token, to_images
from pisa.types import Condition


class Experts(nn.Module):
    """Two networks; ``high`` is for noise levels from ``boundary`` upwards."""

    def __init__(self, high: nn.Module, low: nn.Module, boundary: float) -> None:
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary


class Wan(DiffusersModel):
    """``VideoModel`` over the Wan image-to-video models."""

    pipeline_class = "WanImageToVideoPipeline"

    def __init__(self, pipe: Any, *, max_tokens: int = 512, **options: Any) -> None:
        super().__init__(pipe, max_tokens=max_tokens, **options)
        self.first_frame_in_latents = bool(pipe.config.expand_timesteps)

    def takes_first_frame(self) -> bool:
        channels = self.denoiser_config.in_channels
        return bool(self.pipe.config.expand_timesteps or channels > self.vae.config.z_dim)

    def latent_channels(self) -> int:
        return int(self.vae.config.z_dim)

    def normalise(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return latents * std + mean

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        if not isinstance(self.denoiser, Experts):
            return self._predict(self.denoiser, x, noise_level, condition, clean_frames)
        high = noise_level >= self.denoiser.boundary
        output = torch.zeros_like(x)
        for network, rows in ((self.denoiser.high, high), (self.denoiser.low, ~high)):
            if rows.any():
                picked = _rows(condition, rows)
                part = self._predict(
                    network, x[rows], noise_level[rows], picked, clean_frames[rows]
                )
                output = output.index_put((rows.nonzero()[:, 0],), part)
        return output

    def _predict(
        self,
        network: nn.Module,
        x: Tensor,
        level: Tensor,
        condition: Condition,
        clean_frames: Tensor,
    ) -> Tensor:
        timestep = level * TIMESTEPS
        if self.first_frame_in_latents:
            tokens = x.shape[3] * x.shape[4] // 4  # per latent frame
            noisy = repeat((~clean_frames).float(), "b f -> b (f n)", n=tokens)
            timestep, hidden = noisy * timestep[:, None], x
        else:
            hidden = torch.cat([x, condition.image["first"].to(x)], dim=1)
        picture = condition.image.get("embedding")
        output: Tensor = network(
            hidden_states=hidden.to(self.dtype),
            timestep=timestep,
            encoder_hidden_states=condition.embedding.to(self.dtype),
            encoder_hidden_states_image=None if picture is None else picture.to(self.dtype),
            return_dict=False,
        )[0]
        return output.float()

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        if self.first_frame_in_latents:
            return {}
        image = {"first": self._padded(first_frame, num_frames)}
        if self.denoiser_config.get("image_dim") is not None:
            with self.visiting("image_encoder"):
                embedding = self.pipe.encode_image(to_images(first_frame), self.device)
            image["embedding"] = embedding.float()
        return image

    def _padded(
        self, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Float[Tensor, "b c f i j"]:
        """Mask (as many channels as frames per latent frame) and latents of frame 0, then grey."""
        time = self.vae.config.scale_factor_temporal
        grey = first_frame.new_zeros(*first_frame.shape[:2], num_frames - 1, *first_frame.shape[2:])
        video = torch.cat([first_frame[:, :, None], grey], dim=2).to(self.vae.dtype)
        latents = self.normalise(
            torch.cat([self.vae.encode(clip[None]).latent_dist.mode() for clip in video]).float()
        )
        mask = latents.new_zeros(len(latents), time, *latents.shape[2:])
        mask[:, :, 0] = 1.0
        return torch.cat([mask, latents], dim=1)

    def _embed(self, captions: list[str]) -> Condition:
        """UMT5 embeddings, zeros after the last token.

        The pipeline also repairs broken Unicode (ftfy) in captions, which plain text has none of.
        """
        texts = [" ".join(html.unescape(html.unescape(text)).split()) for text in captions]
        tokens = self.pipe.tokenizer(
            texts,
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.device)
        mask = tokens.attention_mask
        hidden = self.pipe.text_encoder(tokens.input_ids, mask).last_hidden_state
        return every_token(hidden * rearrange(mask.to(hidden), "b l -> b l 1"))

    def _build_denoiser(self, pipe: Any) -> nn.Module:
        boundary = pipe.config.get("boundary_ratio")
        if boundary is None:
            return super()._build_denoiser(pipe)
        return Experts(pipe.transformer, pipe.transformer_2, float(boundary))

    def _denoiser_parts(self) -> list[Any]:
        if isinstance(self.denoiser, Experts):
            return [self.denoiser.high, self.denoiser.low]
        return [self.denoiser]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel."""
        config = self.vae.config
        mean, std = (like.new_tensor(list(v)) for v in (config.latents_mean, config.latents_std))
        return rearrange(mean, "c -> c 1 1 1"), rearrange(std, "c -> c 1 1 1")


def _rows(condition: Condition, rows: Bool[Tensor, " b"]) -> Condition:
    return Condition(
        condition.embedding[rows],
        condition.mask[rows],
        image={name: value[rows] for name, value in condition.image.items()},
    )
