"""Base class of the adapters of diffusers' image-to-video pipelines.

A pipeline's ``__call__`` runs without gradient, so the adapters drive its components themselves:
text encoder, VAE, transformer and the noise levels of its scheduler.

Every model is seen as a rectified flow, ``x_s = (1 - s) x_0 + s noise`` (``pisa.types``). Diffusion
models of another kind are that up to a scale that depends on the noise level alone, and a
deterministic first-order step of theirs (DDIM, Euler) is an Euler step here. A scheduler of higher
order (UniPC) lends its noise levels only.

With ``a^2 + b^2 = 1``, ``z = a x_0 + b noise`` is the same point where ``s = b / (a + b)``:
``x = z / (a + b)``. A network that predicts ``v = a noise - b x_0`` (arXiv:2202.00512 Appendix D)
then gives ``x_0 = a z - b v`` and ``noise = b z + a v``, so the velocity is
``noise - x_0 = (b - a) z + (a + b) v``. Models with exploding variance (EDM, arXiv:2206.00364) are
the same point once more, ``sigma = b / a = s / (1 - s)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.io.weights import module_sha256
from pisa.models.base import VideoModel
from pisa.models.diffusers_i2v.loading import load_pipeline, place_pipeline, visiting
from pisa.ops.video import to_frames
from pisa.types import Condition

TIMESTEPS = 1000.0


class DiffusersModel(VideoModel):
    """A pipeline's denoiser (trainable) and VAE (frozen); the encoders of text and image visit.

    Encoders stay outside the module tree: they are moved to the denoiser's device for the moment
    in which they work. Latents and velocities are float32 whatever the parts' dtype.

    Args:
        pipe: of the class ``pipeline_class`` of diffusers, or of its attributes.
        negative_prompt: text of the null prompt.
        sample_posterior: draw latents from the VAE's posterior; False takes its mode.
        max_tokens: of a caption.
        offload: none | model | sequential, for ``place`` (generation); training ignores it.
        grad_checkpoint: recompute each block of the denoiser in backward.
    """

    pipeline_class: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"
    encoder_names: ClassVar[tuple[str, ...]] = ("text_encoder",)  # that read captions
    first_frame_in_latents = False
    straight_path = False

    def __init__(
        self,
        pipe: Any,
        *,
        negative_prompt: str = "",
        sample_posterior: bool = False,
        max_tokens: int = 226,
        grad_checkpoint: bool = False,
        offload: str = "none",
    ) -> None:
        super().__init__()
        self._pipe = [pipe]  # outside the module tree
        self.denoiser = self._build_denoiser(pipe)
        self.vae = pipe.vae.requires_grad_(False).eval()
        self.negative_prompt = negative_prompt
        self.sample_posterior = sample_posterior
        self.max_tokens = max_tokens
        self.offload = offload
        self._offloading = False  # from ``place`` on
        if not self.takes_first_frame():
            raise PisaError(
                f"{pipe.config.get('_name_or_path') or type(pipe).__name__} is a text-to-video "
                "model: it has no input for a first frame; take the image-to-video weights"
            )
        self._null: Condition | None = None
        if grad_checkpoint:
            for part in self._denoiser_parts():
                part.enable_gradient_checkpointing()

    @classmethod
    def from_pretrained(
        cls,
        repository: str,
        *,
        revision: str | None = None,
        dtype: str = "bfloat16",
        vae_dtype: str | None = None,
        vae_tiling: bool = False,
        vae_slicing: bool = False,
        **options: Any,
    ) -> DiffusersModel:
        """The released model from a Hugging Face repository or a folder of it.

        ``options`` go to the constructor. ``configs/model`` names the memory switches per model.

        Raises:
            PisaError: the weights are not there, gated, or no image-to-video model.
        """
        pipe = load_pipeline(cls.pipeline_class, repository, revision, dtype, vae_dtype)
        for wanted, switch in ((vae_tiling, "enable_tiling"), (vae_slicing, "enable_slicing")):
            if wanted:
                getattr(pipe.vae, switch)()
        return cls(pipe, **options)

    @property
    def pipe(self) -> Any:
        return self._pipe[0]

    @property
    def device(self) -> torch.device:
        if self._offloading:
            return torch.device(self.pipe._execution_device)
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the denoiser's arithmetic; diffusers keeps a few parameters in float32."""
        dtype: torch.dtype = self._denoiser_parts()[0].dtype
        return dtype

    def place(self, device: torch.device) -> None:
        """Put the model where it generates: on the device, or offloaded part by part to it."""
        if self.offload == "none":
            self.to(device)
        else:
            place_pipeline(self.pipe, self.offload, device)
            self._offloading = True

    def train(self, mode: bool = True) -> DiffusersModel:
        super().train(mode)
        self.vae.eval()
        return self

    def takes_first_frame(self) -> bool:
        """Whether the weights have an input for it."""
        return True

    # ------------------------------------------------------------------------- latents

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        return self.normalise(self.posterior(video.to(self.vae.dtype)).float())

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 1 i j"]:
        return self.encode(frame[:, :, None])

    def decode(
        self, latents: Float[Tensor, "b c f i j"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        video = self.vae.decode(self.denormalise(latents).to(self.vae.dtype)).sample
        return video[:, :, :num_frames].float()

    def posterior(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        """Raw latents, clip by clip as the pipelines do (the order of the draws matters)."""
        return torch.cat([self._draw(self.vae.encode(clip[None])) for clip in video])

    @property
    def denoiser_config(self) -> Any:
        """The settings of the denoiser (of two alike), which diffusers keeps beside it."""
        return self._denoiser_parts()[0].config

    def normalise(self, latents: Tensor) -> Tensor:
        """The VAE's latents as the denoiser sees them."""
        return latents * self.vae.config.scaling_factor

    def denormalise(self, latents: Tensor) -> Tensor:
        return latents / self.vae.config.scaling_factor

    def factors(self) -> tuple[int, int, int]:
        """Pixel sides per latent side, frames per latent frame, latent sides per token side."""
        pipe, patch = self.pipe, self.denoiser_config.patch_size
        side = patch if isinstance(patch, int) else patch[1]
        return pipe.vae_scale_factor_spatial, pipe.vae_scale_factor_temporal, side

    def frame_step(self) -> int:
        """The model makes ``frame_step k + 1`` frames."""
        return self.factors()[1]

    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Raises ``PisaError`` for a size or a number of frames that the model cannot make."""
        name = type(self).__name__
        size = latent_size(name, self.factors(), num_frames, height, width, self.frame_step())
        return (self.latent_channels(), *size)

    def codec_fingerprint(self) -> str:
        return module_sha256(self.vae, type(self).__name__, self.sample_posterior)

    # ------------------------------------------------------------------------- conditions

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> Condition:
        with self.visiting(*self.encoder_names):
            return self._embed(list(captions))

    def null_condition(self, batch_size: int) -> Condition:
        """The negative prompt, encoded once."""
        if self._null is None or self._null.embedding.device != self.device:
            self._null = self.encode_captions([self.negative_prompt])
        return Condition(
            self._null.embedding.expand(batch_size, -1, -1), self._null.mask.expand(batch_size, -1)
        )

    @torch.no_grad()
    def with_first_frame(
        self, condition: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        image = self._image_condition(condition, first_frame, num_frames)
        return Condition(condition.embedding, condition.mask, image=image)

    def null_beside(
        self, prompt: Condition, first_frame: Float[Tensor, "b 3 h w"], num_frames: int
    ) -> Condition:
        null = self.null_condition(len(prompt.mask))
        return Condition(null.embedding, null.mask, image=prompt.image)

    def _embed(self, captions: list[str]) -> Condition:
        embedding = self.pipe.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            device=self.device,
        )[0]
        return every_token(embedding)

    def _image_condition(
        self, condition: Condition, first_frame: Tensor, num_frames: int
    ) -> dict[str, Tensor]:
        return {}

    # ------------------------------------------------------------------------- sampling

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        """Shift of the levels drawn in training."""
        return float(self.pipe.scheduler.config.get("shift") or 1.0)

    def sampling_levels(
        self, num_steps: int, num_frames: int, height: int, width: int
    ) -> Float[Tensor, " n"]:
        """Those of a flow-matching scheduler."""
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(num_steps)
        return scheduler.sigmas.float().cpu().clone()

    # ------------------------------------------------------------------------- parts

    def _build_denoiser(self, pipe: Any) -> nn.Module:
        part: nn.Module = getattr(pipe, self.denoiser_name)
        return part

    def _denoiser_parts(self) -> list[Any]:
        return [self.denoiser]

    def _draw(self, encoded: Any) -> Tensor:
        posterior = encoded.latent_dist
        drawn: Tensor = posterior.sample() if self.sample_posterior else posterior.mode()
        return drawn

    def visiting(self, *names: str) -> AbstractContextManager[None]:
        """The pipeline's parts of these names on the denoiser's device within the block."""
        parts = [getattr(self.pipe, name, None) for name in names]
        moved = [part for part in parts if part is not None and not self._offloading]
        return visiting(moved, self.device)


def every_token(embedding: Float[Tensor, "b l d"]) -> Condition:
    """A condition of which every token counts, padding too."""
    mask = torch.ones(embedding.shape[:2], dtype=torch.bool, device=embedding.device)
    return Condition(embedding, mask)


def to_images(first_frame: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """The frames, of [-1, 1], as the pipelines' image processors take them."""
    return [Image.fromarray(to_frames(frame[:, None])[0]) for frame in first_frame]


def level_of_sigma(sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Noise level s of ``x_0 + sigma noise``."""
    return sigma / (1 + sigma)


def level_of_alpha(alpha_squared: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Noise level s of a variance-preserving point; ``alpha_squared`` is the cumulative product."""
    a, b = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
    return b / (a + b)


def velocity_of_v(
    x: Float[Tensor, "b c f i j"],
    level: Float[Tensor, " b"],
    predict: Callable[[Tensor], Tensor],
) -> Float[Tensor, "b c f i j"]:
    """Velocity at x from ``predict(z) -> v``."""
    s = level.reshape(-1, *[1] * (x.ndim - 1))  # [B, 1, 1, 1, 1]
    scale = ((1 - s) ** 2 + s**2).sqrt()  # 1 / (a + b)
    a, b = (1 - s) / scale, s / scale
    z = x / scale
    return (b - a) * z + (a + b) * predict(z)


def latent_size(
    name: str,
    factors: tuple[int, int, int],
    num_frames: int,
    height: int,
    width: int,
    frame_step: int,
) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip of ``num_frames`` frames of height x width pixels.

    Args:
        name: of the model, for the messages.
        factors: pixel sides per latent side, frames per latent frame, latent sides per token side.
        frame_step: the model makes ``frame_step k + 1`` frames.

    Raises:
        PisaError: the model cannot make that number of frames, or that size.
    """
    space, time, patch = factors
    if num_frames < 1 or (num_frames - 1) % frame_step:
        low = (num_frames - 1) // frame_step * frame_step + 1
        raise PisaError(
            f"{name} makes {frame_step} k + 1 frames, not {num_frames}: "
            f"set {max(low, 1)} or {low + frame_step}"
        )
    if height % (space * patch) or width % (space * patch):
        raise PisaError(f"{name} needs sides divisible by {space * patch} px, not {height}x{width}")
    return (num_frames - 1) // time + 1, height // space, width // space
