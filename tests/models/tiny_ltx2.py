"""A tiny LTX-2 pipeline of the real classes; see tiny_pipelines."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2ImageToVideoPipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from tests.models.tiny_pipelines import tokenizer

TEXT = 16  # width of Gemma's hidden states, of which there are three
LATER = {  # what sets the transformer of 2.3 apart
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}


def gemma() -> Gemma3ForConditionalGeneration:
    text = {
        "hidden_size": TEXT,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "vocab_size": 32,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    tokens = {"image_token_index": 3, "boi_token_index": 28, "eoi_token_index": 29}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **tokens)
    return Gemma3ForConditionalGeneration(config).eval()


def connectors(later: bool) -> LTX2TextConnectors:
    stream = {
        "connector_num_attention_heads": 2,
        "connector_num_layers": 1,
        "connector_num_learnable_registers": 8,
    }
    sizes = {
        f"{kind}_{name}": value for kind in ("video", "audio") for name, value in stream.items()
    }
    return LTX2TextConnectors(
        caption_channels=TEXT,
        text_proj_in_factor=3,
        video_connector_attention_head_dim=8,
        audio_connector_attention_head_dim=4 if later else 8,
        rope_double_precision=False,
        per_modality_projections=later,
        video_hidden_dim=16,
        audio_hidden_dim=8,
        **sizes,
    )


def video_vae() -> AutoencoderKLLTX2Video:
    return AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        down_block_types=("LTX2VideoDownBlock3D",) * 2,
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        downsample_type=("spatiotemporal",) * 2,
        upsample_type=("spatiotemporal",) * 2,
        upsample_residual=(False, False),
        upsample_factor=(1, 1),
        patch_size=1,
        decoder_causal=False,
    )


def audio_vae() -> AutoencoderKLLTX2Audio:
    return AutoencoderKLLTX2Audio(
        base_channels=4,  # also the width of a token: 2 channels of 2 mel bins
        ch_mult=(1,),
        num_res_blocks=1,
        resolution=32,
        latent_channels=2,
        mel_bins=8,
    )


def transformer(later: bool) -> LTX2VideoTransformer3DModel:
    return LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        vae_scale_factors=(4, 4, 4),
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=TEXT,
        rope_double_precision=False,
        **(LATER if later else {}),
    )


def ltx2(version: str = "2.0") -> LTX2ImageToVideoPipeline:
    torch.manual_seed(0)
    later = version == "2.3"
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3]],
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    return LTX2ImageToVideoPipeline(
        scheduler=scheduler,
        vae=video_vae(),
        audio_vae=audio_vae(),
        text_encoder=gemma(),
        tokenizer=tokenizer(),
        connectors=connectors(later),
        transformer=transformer(later),
        vocoder=vocoder,
    )
