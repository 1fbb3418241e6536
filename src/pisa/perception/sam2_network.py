"""SAM 2.1 networks by plain constructors, and all that is used of ``sam2`` beside its interface.

Values are those of the YAML files that the ``sam2`` package reads through a global Hydra; built
here so that they work inside another Hydra application, at any image size. The private methods
are those of sam2 1.1.0, the version that pyproject.toml pins.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class HieraSize:
    """Size of the Hiera image encoder; defaults are those of SAM 2.1 Hiera-L."""

    embed_dim: int = 144
    num_heads: int = 2
    stages: tuple[int, int, int, int] = (2, 6, 36, 4)
    global_att_blocks: tuple[int, ...] = (23, 33, 43)
    window_spec: tuple[int, int, int, int] = (8, 4, 16, 8)
    background_size: tuple[int, int] = (7, 7)


HIERA_LARGE = HieraSize()
HIERA_TINY = HieraSize(96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7))


def build_sam2(size: HieraSize = HIERA_LARGE, image_size: int = 1024) -> nn.Module:
    """``sam2.modeling.sam2_base.SAM2Base`` with random weights, in eval mode."""
    _import_sam2()
    from sam2.modeling.sam2_base import SAM2Base

    network = SAM2Base(
        image_encoder=_image_encoder(size),
        memory_attention=_memory_attention(),
        memory_encoder=_memory_encoder(),
        image_size=image_size,
        **_BEHAVIOUR,
    )
    return network.eval()


def prepare_features(network: Any, backbone: dict[str, Any]) -> tuple[list, list, list]:
    """Features, position codes and sizes of one frame, flattened as ``track_step`` takes them."""
    _, features, positions, sizes = network._prepare_backbone_features(backbone)
    return features, positions, sizes


def encode_memory(
    network: Any, features: list, sizes: list, masks: Tensor, object_scores: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Memory features of a frame with these mask logits, and their position codes."""
    encoded: tuple[Tensor, list[Tensor]] = network._encode_new_memory(
        current_vision_feats=features,
        feat_sizes=sizes,
        pred_masks_high_res=masks,
        object_score_logits=object_scores,
        is_mask_from_pts=True,
    )
    return encoded


_BEHAVIOUR: dict[str, Any] = {
    "num_maskmem": 7,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "binarize_mask_from_pts_for_mem_enc": True,
    "use_mask_input_as_output_without_sam": True,
    "directly_add_no_mem_embed": True,
    "no_obj_embed_spatial": True,
    "use_high_res_features_in_sam": True,
    "multimask_output_in_sam": True,
    "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "pred_obj_scores": True,
    "pred_obj_scores_mlp": True,
    "fixed_no_obj_ptr": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
    "sam_mask_decoder_extra_args": {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    },
}


def _image_encoder(size: HieraSize) -> nn.Module:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder

    trunk = Hiera(
        embed_dim=size.embed_dim,
        num_heads=size.num_heads,
        stages=size.stages,
        global_att_blocks=size.global_att_blocks,
        window_spec=size.window_spec,
        window_pos_embed_bkg_spatial_size=size.background_size,
    )
    neck = FpnNeck(
        position_encoding=_sine_positions(256),
        d_model=256,
        backbone_channel_list=[size.embed_dim * factor for factor in (8, 4, 2, 1)],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention() -> nn.Module:
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    shared: dict[str, Any] = {
        "rope_theta": 10000.0,
        "feat_sizes": (64, 64),
        "embedding_dim": 256,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.1,
    }
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=64, **shared),
        d_model=256,
        dim_feedforward=2048,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**shared),
    )
    return MemoryAttention(d_model=256, pos_enc_at_input=True, layer=layer, num_layers=4)


def _memory_encoder() -> nn.Module:
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder

    block = CXBlock(256, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True)
    return MemoryEncoder(
        out_dim=64,
        position_encoding=_sine_positions(64),
        mask_downsampler=MaskDownSampler(kernel_size=3, stride=2, padding=1),
        fuser=Fuser(layer=block, num_layers=2),
    )


def _sine_positions(features: int) -> nn.Module:
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    return PositionEmbeddingSine(
        num_pos_feats=features, normalize=True, scale=None, temperature=10000
    )


def _import_sam2() -> None:
    """Import ``sam2`` without leaving the global Hydra that its import starts."""
    if "sam2" in sys.modules:
        return
    hydra = sys.modules.get("hydra.core.global_hydra")
    busy = hydra is not None and hydra.GlobalHydra.instance().is_initialized()
    sam2 = importlib.import_module("sam2")
    if not busy:
        sam2.GlobalHydra.instance().clear()
