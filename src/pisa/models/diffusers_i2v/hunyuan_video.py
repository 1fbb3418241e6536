"""HunyuanVideo image-to-video (arXiv:2412.03603), both ways of telling the first frame.

The released model replaces latent frame 0 ("token_replace"), its 33-channel variant concatenates it
("latent_concat"). LLaVA reads caption and first frame together, so captions wait as bytes until
the frame is known. A leading 0 marks the null prompt, which sees a black picture as in the
pipeline (there with twice as many of its tokens where the frame is replaced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from pisa.errors import PisaError
from pisa.models.diffusers_i2v.base import TIMESTEPS, DiffusersModel, to_images
from pisa.types import Condition

CAPTION_BYTES = 1024
START_LEVEL = 0.999  # noise is mixed with the first frame in this proportion


class HunyuanVideo(DiffusersModel):
    """``VideoModel`` over HunyuanVideo-I2V.

    ``embedded_guidance`` is told to the network, which was distilled from guided sampling; leave
    the sampler's guidance at 1 then. ``prompt_template``: None takes the model's own.
    """

    pipeline_class = "HunyuanVideoImageToVideoPipeline"

    def __init__(
        self,
        pipe: Any,
        *,
        embedded_guidance: float = 6.0,
        max_tokens: int = 256,
        prompt_template: dict[str, Any] | None = None,
        image_embed_interleave: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(pipe, max_tokens=max_tokens, **options)
        kind = self.denoiser_config.image_condition_type
        self.replaces = kind == "token_replace"
        self.first_frame_in_latents = self.replaces
        self.embedded_guidance = embedded_guidance
        self.interleave = image_embed_interleave or {"latent_concat": 2, "token_replace": 4}[kind]
        self.template = {} if prompt_template is None else {"prompt_template": prompt_template}

    def takes_first_frame(self) -> bool:
        return self.denoiser_config.image_condition_type is not None

    def factors(self) -> tuple[int, int, int]:
        pipe, patch = self.pipe, int(self.denoiser_config.patch_size)
        return pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal, patch

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        return even_levels(self.pipe.scheduler, num_steps)

    def initial_latents(self, noise: Tensor, level: float, condition: Condition) -> Tensor:
        return torch.lerp(condition.image["first_latent"].to(noise), noise, START_LEVEL)

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        return self._as_bytes([text.encode() for text in captions])

    def null_condition(self, batch_size: int) -> Condition:
        return self._as_bytes([b"\x00" + self.negative_prompt.encode()] * batch_size)

    @torch.no_grad()
    def with_first_frame(
        self, condition: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        rows = [_text(row, mask) for row, mask in zip(*_parts(condition), strict=True)]
        images = to_images(first_frame)
        with self.visiting("text_encoder", "text_encoder_2"):
            embedded = [
                self._read(text, image, black=is_null)
                for (text, is_null), image in zip(rows, images, strict=True)
            ]
        embedding, pooled, mask = (torch.cat(part) for part in zip(*embedded, strict=True))
        frame = first_frame[:, :, None].to(self.vae.dtype)
        first = torch.cat([self.vae.encode(one[None]).latent_dist.mode() for one in frame]).float()
        image = {"pooled": pooled.float(), "first_latent": self.normalise(first)}
        return Condition(embedding, mask.bool(), image=image)

    def null_beside(
        self, prompt: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        return self.with_first_frame(self.null_condition(len(prompt.mask)), first_frame, num_frames)

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        hidden = x if self.replaces else torch.cat([x, *self._first(x, condition)], dim=1)
        guidance = None
        if self.denoiser_config.guidance_embeds:
            guidance = x.new_full((len(x),), self.embedded_guidance * TIMESTEPS).to(self.dtype)
        output = self.denoiser(
            hidden_states=hidden.to(self.dtype),
            timestep=noise_level * TIMESTEPS,
            encoder_hidden_states=condition.embedding.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            pooled_projections=condition.image["pooled"].to(self.dtype),
            guidance=guidance,
            return_dict=False,
        )[0]
        return output.float()

    def latent_channels(self) -> int:
        channels = int(self.denoiser_config.in_channels)
        return channels if self.replaces else (channels - 1) // 2

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """All frames; the pipeline drops the first four of the 33-channel model."""
        return super().decode(latents, num_frames)

    def _first(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Latent of the first frame, zeros after it, and the mask that says so."""
        latents, mask = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        latents[:, :, :1] = condition.image["first_latent"].to(x)
        mask[:, :, 0] = 1.0
        return latents, mask

    def _read(self, text: str, image: Image.Image, *, black: bool) -> tuple[Tensor, Tensor, Tensor]:
        seen = Image.new("RGB", image.size, 0) if black else image
        read: tuple[Tensor, Tensor, Tensor] = self.pipe.encode_prompt(
            image=seen,
            prompt=text,
            device=self.device,
            max_sequence_length=self.max_tokens,
            image_embed_interleave=self.interleave,
            **self.template,
        )
        return read

    def _as_bytes(self, texts: Sequence[bytes]) -> Condition:
        embedding = torch.zeros(len(texts), CAPTION_BYTES, 1)
        mask = torch.zeros(len(texts), CAPTION_BYTES, dtype=torch.bool)
        for row, text in enumerate(texts):
            if len(text) >= CAPTION_BYTES:
                raise PisaError(f"a caption holds {len(text)} bytes, at most {CAPTION_BYTES - 1}")
            embedding[row, : len(text), 0] = torch.tensor(list(text), dtype=torch.float32)
            mask[row, : len(text)] = True
            mask[row, 0] = True
        return Condition(embedding.to(self.device), mask.to(self.device))


def _parts(condition: Condition) -> tuple[list[list[float]], list[list[bool]]]:
    return condition.embedding[..., 0].tolist(), condition.mask.tolist()


def _text(row: list[float], mask: list[bool]) -> tuple[str, bool]:
    """The caption and whether it is the null prompt."""
    content = bytes(int(value) for value, real in zip(row, mask, strict=True) if real)
    return content.strip(b"\x00").decode(), content[:1] == b"\x00" and len(content) >= 1


def even_levels(scheduler: Any, num_steps: int) -> Float[Tensor, " n"]:
    """Noise levels evenly spaced from 1 to 0, as HunyuanVideo's pipelines ask for; then shifted."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_steps + 1)[:-1])
    return scheduler.sigmas.float().cpu().clone()
