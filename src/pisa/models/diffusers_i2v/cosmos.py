"""Cosmos-Predict2 and 2.5 video2world (arXiv:2501.03575), started from one frame.

The EDM parametrisation of 2 is exactly a rectified flow: the network's output is the velocity. Its
sampling ends at a noise level just above 0. 2.5 is a rectified flow as it is. Both weigh guidance
as ``u + g (u - u_null)``.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.errors import PisaError
from pisa.models.diffusers_i2v.base import DiffusersModel, level_of_sigma
from pisa.models.diffusers_i2v.wan import Wan
from pisa.types import Condition


class Cosmos2(Wan):
    """``VideoModel`` over Cosmos-Predict2 2B and 14B; the VAE is Wan's.

    Captions pass NVIDIA's guardrail where the pipeline has one (package ``cosmos_guardrail``).
    """

    pipeline_class = "Cosmos2VideoToWorldPipeline"
    told_level = 1e-4 / (1 + 1e-4)  # of the given frame, whose sigma is 1e-4 in the pipeline

    def __init__(self, pipe: Any, *, sample_posterior: bool = True, **options: Any) -> None:
        super(Wan, self).__init__(
            pipe, max_tokens=512, sample_posterior=sample_posterior, **options
        )

    def takes_first_frame(self) -> bool:
        return bool(self.denoiser_config.in_channels > self.vae.config.z_dim)

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return 1.0

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(sigmas=torch.linspace(0, 1, num_steps, dtype=torch.float64))
        sigmas = scheduler.sigmas.clone()
        if scheduler.config.final_sigmas_type == "sigma_min":
            sigmas[-1] = sigmas[-2]
        return level_of_sigma(sigmas.double()).float().cpu()

    def initial_latents(self, noise: Tensor, level: float, condition: Condition) -> Tensor:
        return noise * (self.pipe.scheduler.config.sigma_max * (1 - level))

    def final_latents(self, x: Tensor, level: float) -> Tensor:
        return x / (1 - level)

    def guidance_weight(self, guidance: float, num_frames: int) -> float:
        return 1.0 + guidance

    def velocity(
        self,
        x: Float[Tensor, "b c f i j"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b f"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b c f i j"]:
        first = condition.image["first_latent"].to(x)
        given = x.new_zeros(1, 1, x.shape[2], 1, 1)
        given[:, :, 0] = 1.0
        level = repeat(noise_level, "b -> b 1 f 1 1", f=x.shape[2])
        mask = given.expand(len(x), -1, -1, *x.shape[3:])
        space = self.pipe.vae_scale_factor_spatial
        output = self.denoiser(
            hidden_states=torch.lerp(x, first.expand_as(x), given).to(self.dtype),
            timestep=(given * self.told_level + (1 - given) * level).to(self.dtype),
            encoder_hidden_states=condition.embedding.to(self.dtype),
            **self._told(fps_hz),
            condition_mask=mask.to(self.dtype),
            padding_mask=x.new_zeros(1, 1, x.shape[3] * space, x.shape[4] * space).to(self.dtype),
            return_dict=False,
        )[0].float()
        towards = (x - first) / noise_level.clamp(min=1e-3).reshape(-1, 1, 1, 1, 1)
        return given * towards + (1 - given) * output

    def _told(self, fps_hz: float) -> dict[str, Any]:
        """Micro-conditions of the network."""
        return {"fps": int(fps_hz)}

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        """The first frame held for the whole clip, of whose latents frame 0 is used."""
        video = repeat(first_frame, "b c h w -> b c t h w", t=num_frames)
        return {"first_latent": self.encode(video)[:, :, :1]}

    def _embed(self, captions: list[str]) -> Condition:
        checker = getattr(self.pipe, "safety_checker", None)
        if checker is not None:
            checker.to(self.device)
            unsafe = [text for text in captions if not checker.check_text_safety(text)]
            if unsafe:
                raise PisaError(f"Cosmos' guardrail refuses the caption {unsafe[0]!r}")
        return super(Wan, self)._embed(captions)


class Cosmos2_5(Cosmos2):
    """``VideoModel`` over Cosmos-Predict2.5.

    The pipeline's scheduler is UniPC, of which the noise levels are used.
    """

    pipeline_class = "Cosmos2_5_PredictBasePipeline"
    told_level = 1e-4

    def __init__(self, pipe: Any, **options: Any) -> None:
        super().__init__(pipe, **{"sample_posterior": False, **options})

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        return DiffusersModel.sampling_levels(self, num_steps, num_frames, height, width)

    def initial_latents(self, noise: Tensor, level: float, condition: Condition) -> Tensor:
        return noise

    def final_latents(self, x: Tensor, level: float) -> Tensor:
        return x

    def _told(self, fps_hz: float) -> dict[str, Any]:
        return {}

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        """The first frame alone: latent frame 0 of the causal VAE depends on nothing else."""
        return {"first_latent": self.encode_first_frame(first_frame)}
