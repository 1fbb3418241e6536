"""HunyuanVideo (arXiv:2412.03603) and HunyuanVideo 1.5 image-to-video.

The first released model replaces latent frame 0 ("token_replace"), its 33-channel variant
concatenates it ("latent_concat"; all frames are decoded, where the pipeline drops the first four).
LLaVA reads caption and first frame together, so captions wait as bytes until the frame is known. A
leading 0 marks the null prompt, which sees a black picture as in the pipeline (there with twice as
many of its tokens where the frame is replaced).
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
        **options: Any,
    ) -> None:
        super().__init__(pipe, max_tokens=max_tokens, **options)
        kind = self.denoiser_config.image_condition_type
        self.replaces = kind == "token_replace"
        self.first_frame_in_latents = self.replaces
        self.embedded_guidance = embedded_guidance
        self.interleave = {"latent_concat": 2, "token_replace": 4}[kind]
        self.template = {} if prompt_template is None else {"prompt_template": prompt_template}

    def takes_first_frame(self) -> bool:
        return self.denoiser_config.image_condition_type is not None

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
        hidden = x if self.replaces else beside_first_frame(x, condition)
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


class HunyuanVideo15(DiffusersModel):
    """``VideoModel`` over HunyuanVideo-1.5 I2V, without its step-distilled variants.

    Qwen reads the caption, SigLIP the first frame, whose latent and a mask are concatenated. Text
    in quotation marks, which the pipeline also spells out through ByT5, is read by Qwen only.
    """

    pipeline_class = "HunyuanVideo15ImageToVideoPipeline"

    def __init__(self, pipe: Any, **options: Any) -> None:
        super().__init__(pipe, **options)
        if self.denoiser_config.use_meanflow:
            raise PisaError("HunyuanVideo 1.5 distilled with mean flows is not supported")

    def takes_first_frame(self) -> bool:
        return bool(self.denoiser_config.task_type == "i2v")

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        return even_levels(self.pipe.scheduler, num_steps)

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clip by clip: the attention of diffusers' VAE has a mask for one clip only."""
        return torch.cat([super(HunyuanVideo15, self).decode(z[None], num_frames) for z in latents])

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        no_glyphs = x.new_zeros(
            len(x), self.pipe.tokenizer_2_max_length, self.denoiser_config.text_embed_2_dim
        )
        output = self.denoiser(
            hidden_states=beside_first_frame(x, condition).to(self.dtype),
            timestep=(noise_level * TIMESTEPS).to(self.dtype),
            encoder_hidden_states=condition.embedding.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            encoder_hidden_states_2=no_glyphs.to(self.dtype),
            encoder_attention_mask_2=no_glyphs[..., 0].to(self.dtype),
            image_embeds=condition.image["embedding"].to(self.dtype),
            return_dict=False,
        )[0]
        return output.float()

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        pipe, images = self.pipe, to_images(first_frame)
        with self.visiting("image_encoder"):
            embedding = torch.cat(
                [
                    pipe._get_image_embeds(
                        pipe.image_encoder, pipe.feature_extractor, image, self.device
                    )
                    for image in images
                ]
            )
        return {
            "first_latent": self.encode_first_frame(first_frame),
            "embedding": embedding.float(),
        }

    def _embed(self, captions: list[str]) -> Condition:
        pipe = self.pipe
        embedding, mask = pipe._get_mllm_prompt_embeds(
            tokenizer=pipe.tokenizer,
            text_encoder=pipe.text_encoder,
            prompt=captions,
            device=self.device,
            tokenizer_max_length=pipe.tokenizer_max_length,
            system_message=pipe.system_message,
            crop_start=pipe.prompt_template_encode_start_idx,
        )
        return Condition(embedding, mask.bool())


def beside_first_frame(
    x: Float[Tensor, "b c f i j"], condition: Condition
) -> Float[Tensor, "b c2 f i j"]:
    """The latents, that of the first frame with zeros after it, and the mask that says so."""
    latents, mask = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    latents[:, :, :1] = condition.image["first_latent"].to(x)
    mask[:, :, 0] = 1.0
    return torch.cat([x, latents, mask], dim=1)


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
