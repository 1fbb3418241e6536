"""Tiny pipelines of HunyuanVideo and Cosmos-Predict, of the real classes; see tiny_pipelines."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.models.tiny_pipelines import clip_config, t5, tokenizer, wan_vae


def hunyuan(kind: str = "token_replace") -> HunyuanVideoImageToVideoPipeline:
    torch.manual_seed(0)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4 if kind == "token_replace" else 9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=kind == "token_replace",
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
        image_condition_type=kind,
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    llama = LlamaConfig(
        hidden_size=16,
        intermediate_size=37,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=32,
        pad_token_id=0,
    )
    vision = clip_config(hidden_size=8, projection_dim=8, image_size=28, patch_size=14)
    llava = LlavaConfig(vision_config=vision, text_config=llama, image_token_index=3)
    llava.pad_token_id = 0
    text_2 = CLIPTextConfig(
        hidden_size=8,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        vocab_size=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=LlavaForConditionalGeneration(llava).eval(),
        tokenizer=tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=CLIPTextModel(text_2).eval(),
        tokenizer_2=tokenizer(),
        image_processor=CLIPImageProcessor(crop_size=28, size=28),
    )


class Permissive:
    """Stands in for NVIDIA's guardrail, which needs weights."""

    def to(self, device):
        return self

    def check_text_safety(self, text: str) -> bool:
        return "forbidden" not in text

    def check_video_safety(self, video):
        return video


def cosmos_transformer(**options) -> CosmosTransformer3DModel:
    base = {
        "in_channels": 17,
        "out_channels": 16,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "mlp_ratio": 2,
        "text_embed_dim": 32,
        "adaln_lora_dim": 4,
        "max_size": (4, 32, 32),
        "patch_size": (1, 2, 2),
        "rope_scale": (2.0, 1.0, 1.0),
        "concat_padding_mask": True,
        "extra_pos_embed_type": "learnable",
    }
    return CosmosTransformer3DModel(**(base | options))


def cosmos2() -> Cosmos2VideoToWorldPipeline:
    torch.manual_seed(0)
    return Cosmos2VideoToWorldPipeline(
        text_encoder=t5(),
        tokenizer=tokenizer(),
        transformer=cosmos_transformer(),
        vae=wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Permissive(),
    )


def qwen_config() -> Qwen2_5_VLConfig:
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default"},
        "vocab_size": 32,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    return Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "out_hidden_size": 16})


def chat_tokenizer() -> PreTrainedTokenizerFast:
    made = tokenizer()
    made.chat_template = (
        "{% for m in messages %}"
        "{{ m.content if m.content is string else m.content[0].text }} {% endfor %}"
    )
    return made


def cosmos2_5() -> Cosmos2_5_PredictBasePipeline:
    torch.manual_seed(0)
    return Cosmos2_5_PredictBasePipeline(
        text_encoder=Qwen2_5_VLForConditionalGeneration(qwen_config()).eval(),
        tokenizer=chat_tokenizer(),
        transformer=cosmos_transformer(text_embed_dim=48),
        vae=wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        safety_checker=Permissive(),
    )


def hunyuan15() -> HunyuanVideo15ImageToVideoPipeline:
    torch.manual_seed(0)
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=16,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=32,
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    vision = SiglipVisionConfig(
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    pipe = HunyuanVideo15ImageToVideoPipeline(
        text_encoder=Qwen2_5_VLTextModel(qwen_config().text_config).eval(),
        tokenizer=chat_tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
        image_encoder=SiglipVisionModel(vision).eval(),
        feature_extractor=SiglipImageProcessor(size={"height": 28, "width": 28}),
    )
    pipe.tokenizer_max_length = pipe.tokenizer_2_max_length = 16
    pipe.prompt_template_encode_start_idx, pipe.system_message = 0, "a"
    return pipe
