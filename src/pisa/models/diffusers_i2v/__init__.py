"""Image-to-video models of diffusers as ``VideoModel``s, one file per family."""

from pisa.models.diffusers_i2v.cogvideox import CogVideoX
from pisa.models.diffusers_i2v.cosmos import Cosmos2, Cosmos2_5
from pisa.models.diffusers_i2v.hunyuan_video import HunyuanVideo, HunyuanVideo15
from pisa.models.diffusers_i2v.ltx import LTXVideo
from pisa.models.diffusers_i2v.ltx2 import LTX2
from pisa.models.diffusers_i2v.svd import StableVideoDiffusion
from pisa.models.diffusers_i2v.wan import Wan

__all__ = [
    "LTX2",
    "CogVideoX",
    "Cosmos2",
    "Cosmos2_5",
    "HunyuanVideo",
    "HunyuanVideo15",
    "LTXVideo",
    "StableVideoDiffusion",
    "Wan",
]
