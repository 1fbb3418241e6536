"""Rectified flow: the path, noise levels and samplers that carry gradient."""

from pisa.diffusion.noise_levels import (
    inference_noise_levels,
    logit_normal_noise_level,
    shift_noise_level,
    uniform_noise_level,
)
from pisa.diffusion.path import blend_clean, interpolate, velocity_loss, velocity_target
from pisa.diffusion.samplers import (
    guided_velocity,
    last_k,
    random_k,
    sample_ancestral,
    sample_euler,
)

__all__ = [
    "blend_clean",
    "guided_velocity",
    "inference_noise_levels",
    "interpolate",
    "last_k",
    "logit_normal_noise_level",
    "random_k",
    "sample_ancestral",
    "sample_euler",
    "shift_noise_level",
    "uniform_noise_level",
    "velocity_loss",
    "velocity_target",
]
