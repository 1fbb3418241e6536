"""Open-Sora's VAE v1.2: a spatial SDXL-type autoencoder per frame, then a temporal one.

Pixels in [-1, 1] -> spatial latents (8x smaller, times 0.18215) -> temporal latents in micro clips
of 17 frames -> ``(z - shift) / scale``. The names of the tensors are those of
``hpcai-tech/OpenSora-VAE-v1.2``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pisa.models.opensora.temporal_vae import Gaussian, TemporalVAE

SDXL_AUTOENCODER: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
SPATIAL_FACTOR = 8
DrawNoise = Callable[[Tensor], Tensor]


class SpatialVAE(nn.Module):
    """diffusers' ``AutoencoderKL`` on frames, a few at a time.

    ``scaling_factor`` is 0.18215 in the release although SDXL's own is 0.13025.
    ``grad_checkpoint`` recomputes each micro batch in backward.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        scaling_factor: float = 0.18215,
        micro_batch_size: int | None = 4,
        grad_checkpoint: bool = False,
    ):
        super().__init__()
        # Imported here: it takes seconds, and the denoiser alone does not need it.
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self.module = AutoencoderKL(**config)
        self.scaling_factor = scaling_factor
        self.micro_batch_size = micro_batch_size
        self.grad_checkpoint = grad_checkpoint

    def encode(
        self, video: Float[Tensor, "b 3 t h w"], draw_noise: DrawNoise | None
    ) -> Float[Tensor, "b c t i j"]:
        """Scaled posterior samples, or means if ``draw_noise`` is None."""
        module = self.module

        def encode(frames: Tensor) -> Tensor:
            posterior = Gaussian.from_moments(module.encode(frames).latent_dist.parameters)
            return posterior.mean if draw_noise is None else posterior.sample(draw_noise)

        return self._by_frame(encode, video) * self.scaling_factor

    def decode(self, latents: Float[Tensor, "b c t i j"]) -> Float[Tensor, "b 3 t h w"]:
        module = self.module
        return self._by_frame(
            lambda frames: module.decode(frames).sample, latents / self.scaling_factor
        )

    def _by_frame(self, function: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
        frames = rearrange(video, "b c t h w -> (b t) c h w")
        parts = frames.split(self.micro_batch_size or len(frames))
        if self.grad_checkpoint and torch.is_grad_enabled():
            done = [checkpoint(function, part, use_reentrant=False) for part in parts]
        else:
            done = [function(part) for part in parts]
        return rearrange(torch.cat(done), "(b t) c h w -> b c t h w", t=video.shape[2])


class OpenSoraVAE(nn.Module):
    """Spatial and temporal autoencoder in one; the defaults are those of VAE v1.2.

    Args:
        spatial_cfg: keywords of diffusers' ``AutoencoderKL``.
        temporal_cfg: keywords of ``TemporalVAE``.
        shift, scale: per-channel normalisation of the latents.
        micro_frame_size: frames per temporal micro clip; the group norms span one micro clip.
        micro_batch_size: frames the spatial autoencoder takes at a time (None: all).
    """

    def __init__(
        self,
        spatial_cfg: Mapping[str, Any] | None = None,
        temporal_cfg: Mapping[str, Any] | None = None,
        *,
        shift: Sequence[float] = (-0.10, 0.34, 0.27, 0.98),
        scale: Sequence[float] = (3.85, 2.32, 2.33, 3.06),
        spatial_scaling_factor: float = 0.18215,
        micro_frame_size: int = 17,
        micro_batch_size: int | None = 4,
        grad_checkpoint: bool = False,
    ):
        super().__init__()
        spatial = SDXL_AUTOENCODER if spatial_cfg is None else spatial_cfg
        self.spatial_vae = SpatialVAE(
            spatial, spatial_scaling_factor, micro_batch_size, grad_checkpoint
        )
        self.temporal_vae = TemporalVAE(**(temporal_cfg or {}))
        self.micro_frame_size = micro_frame_size
        self.register_buffer("scale", torch.tensor(list(scale))[None, :, None, None, None])
        self.register_buffer("shift", torch.tensor(list(shift))[None, :, None, None, None])
        self.scale: Tensor
        self.shift: Tensor

    @property
    def latent_channels(self) -> int:
        return self.scale.shape[1]

    def encode(
        self,
        video: Float[Tensor, "b 3 t h w"],
        *,
        sample: bool = True,
        draw_noise: DrawNoise = torch.randn_like,
    ) -> Float[Tensor, "b c f i j"]:
        """Normalised latents of a clip in [-1, 1].

        ``sample=True`` draws from both posteriors, as the release does everywhere: noise comes
        from ``draw_noise`` for each spatial micro batch, then for each micro clip. ``False`` takes
        their means.
        """
        draw = draw_noise if sample else None
        spatial = self.spatial_vae.encode(video, draw)
        posteriors = (
            self.temporal_vae.encode(part) for part in spatial.split(self.micro_frame_size, dim=2)
        )
        parts = [p.mean if draw is None else p.sample(draw) for p in posteriors]
        return (torch.cat(parts, dim=2) - self.shift) / self.scale

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        """Clips, nominally in [-1, 1], not clamped.

        Raises:
            ValueError: ``latents`` are not those of ``num_frames`` frames.
        """
        if latents.shape[2] != self.latent_frames(num_frames):
            raise ValueError(
                f"{latents.shape[2]} latent frames do not decode to {num_frames} frames"
            )
        return self.spatial_vae.decode(self.decode_time(latents, num_frames))

    def decode_time(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b c t i j"]:
        """Scaled spatial latents, the input of the spatial decoder."""
        lengths = self._micro_lengths(num_frames)
        sizes = [self.temporal_vae.latent_frames(length) for length in lengths]
        parts = (latents * self.scale + self.shift).split(sizes, dim=2)
        decode = self.temporal_vae.decode
        return torch.cat([decode(z, n) for z, n in zip(parts, lengths, strict=True)], dim=2)

    def latent_frames(self, num_frames: int) -> int:
        """32 frames are cut into 17 + 15, which give 5 + 4 = 9 latent frames."""
        return sum(self.temporal_vae.latent_frames(n) for n in self._micro_lengths(num_frames))

    def _micro_lengths(self, num_frames: int) -> list[int]:
        whole, rest = divmod(num_frames, self.micro_frame_size)
        return [self.micro_frame_size] * whole + [rest] * (rest > 0)
