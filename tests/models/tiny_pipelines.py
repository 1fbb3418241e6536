"""Pipelines of diffusers with few random weights, made of the real classes."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

WORDS = [
    "<pad>",
    "<unk>",
    "</s>",
    "<image>",
    "a",
    "red",
    "square",
    "ball",
    "falls",
    "static",
    "blurry",
    "no",
    "slow-motion",
]
BEFORE = "<sh> system <|end_header_id|> <image> describe <eot> <sh> user <|end_header_id|> "
TEMPLATE = {  # in the form of the released one: three headers, four tokens for the assistant
    "template": BEFORE + "{} <eot> <sh> assistant <|end_header_id|> <nl>",
    "crop_start": 9,
    "image_emb_len": 4,
    "image_emb_start": 3,
    "image_emb_end": 7,
}
WORDS += ["<sh>", "<|end_header_id|>", "<eot>", "<nl>", "system", "user", "assistant", "describe"]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )


def t5(kind=T5Config, model=T5EncoderModel):
    sizes = {"d_model": 32, "d_ff": 37, "d_kv": 8, "num_heads": 4, "num_layers": 2}
    return model(kind(vocab_size=32, **sizes)).eval()


def clip_config(**sizes) -> CLIPVisionConfig:
    base = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return CLIPVisionConfig(**(base | sizes))


PAIRED = {  # what sets version 1.5 apart
    "patch_size_t": 2,
    "ofs_embed_dim": 2,
    "patch_bias": False,
    "use_learned_positional_embeddings": False,
}


def cogvideox(version: str = "1.0") -> CogVideoXImageToVideoPipeline:
    torch.manual_seed(0)
    apart = PAIRED if version == "1.5" else {}
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=2,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
        use_rotary_positional_embeddings=True,
        **({"use_learned_positional_embeddings": True} | apart),
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        invert_scale_latents=version == "1.5",
    )
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
    )
    return CogVideoXImageToVideoPipeline(tokenizer(), t5(), vae, transformer, scheduler)


def wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )


def wan_transformer(**options) -> WanTransformer3DModel:
    base = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 36,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 256,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**(base | options))


def wan(kind: str = "2.1") -> WanImageToVideoPipeline:
    """``kind``: 2.1, a14b (two experts) or 5b (first frame given clean)."""
    torch.manual_seed(0)
    parts = {
        "tokenizer": tokenizer(),
        "text_encoder": t5(UMT5Config, UMT5EncoderModel),
        "vae": wan_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "image_processor": None,
        "image_encoder": None,
    }
    if kind == "2.1":
        vision = clip_config(hidden_size=4, projection_dim=4, image_size=32, patch_size=8)
        return WanImageToVideoPipeline(
            **parts
            | {
                "image_processor": CLIPImageProcessor(crop_size=32, size=32),
                "image_encoder": CLIPVisionModel(vision).eval(),
                "transformer": wan_transformer(image_dim=4, added_kv_proj_dim=24),
            }
        )
    if kind == "a14b":
        both = {"transformer": wan_transformer(), "transformer_2": wan_transformer()}
        return WanImageToVideoPipeline(**parts, **both, boundary_ratio=0.9)
    return WanImageToVideoPipeline(
        **parts, transformer=wan_transformer(in_channels=16), expand_timesteps=True
    )


def svd() -> StableVideoDiffusionPipeline:
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2
    )
    vision = clip_config(hidden_size=32, projection_dim=32, image_size=224, patch_size=56)
    return StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )


def ltx(timestep_conditioning: bool = False) -> LTXImageToVideoPipeline:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=32,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning,
        patch_size=1,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    return LTXImageToVideoPipeline(scheduler, vae, t5(), tokenizer(), transformer)
