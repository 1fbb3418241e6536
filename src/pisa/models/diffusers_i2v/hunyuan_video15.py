"""HunyuanVideo 1.5 image-to-video: Qwen reads the caption, SigLIP the first frame.

The latent of the first frame and a mask are concatenated. Text in quotation marks, which the
pipeline also spells out through ByT5, is read by Qwen only.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.models.diffusers_i2v.base import TIMESTEPS, DiffusersModel, to_images
from pisa.models.diffusers_i2v.hunyuan_video import even_levels
from pisa.types import Condition


class HunyuanVideo15(DiffusersModel):
    """``VideoModel`` over HunyuanVideo-1.5 I2V, without its step-distilled variants."""

    pipeline_class = "HunyuanVideo15ImageToVideoPipeline"

    def __init__(self, pipe: Any, **options: Any) -> None:
        super().__init__(pipe, **options)
        if self.denoiser_config.use_meanflow:
            raise PisaError("HunyuanVideo 1.5 distilled with mean flows is not supported")

    def takes_first_frame(self) -> bool:
        return bool(self.denoiser_config.task_type == "i2v")

    def factors(self) -> tuple[int, int, int]:
        pipe, patch = self.pipe, int(self.denoiser_config.patch_size)
        return pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal, patch

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
        latents, mask = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        latents[:, :, :1] = condition.image["first_latent"].to(x)
        mask[:, :, 0] = 1.0
        no_glyphs = x.new_zeros(
            len(x), self.pipe.tokenizer_2_max_length, self.denoiser_config.text_embed_2_dim
        )
        output = self.denoiser(
            hidden_states=torch.cat([x, latents, mask], dim=1).to(self.dtype),
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
