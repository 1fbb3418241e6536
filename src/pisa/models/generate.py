"""Image-to-video generation with any ``VideoModel``; ORO and evaluation both use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.diffusion.path import CleanFrames
from pisa.diffusion.samplers import Euler, Sampler, Velocity
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.types import Condition


def generate(
    model: VideoModel,
    first_frame: Float[Tensor, "b 3 h w"],
    captions: Sequence[str] | Condition,
    *,
    num_frames: int,
    fps_hz: float,
    num_steps: int,
    guidance: float,
    noise: Float[Tensor, "b c f i j"] | torch.Generator | None = None,
    sampler: Sampler | None = None,
    decode_chunk: int | None = None,
) -> Float[Tensor, "b 3 t h w"]:
    """Clips that continue ``first_frame``, nominally in [-1, 1], not clamped.

    Carries gradient to the denoiser; callers that want none wrap it in ``torch.no_grad``.
    ``decode_chunk`` is the number of clips per ``decode`` call; None decodes all at once. The rest:
    see ``generate_latents``.
    """
    latents = generate_latents(
        model,
        first_frame,
        captions,
        num_frames=num_frames,
        fps_hz=fps_hz,
        num_steps=num_steps,
        guidance=guidance,
        noise=noise,
        sampler=sampler,
    )
    return decode_in_chunks(model, latents, num_frames, decode_chunk)


def generate_latents(
    model: VideoModel,
    first_frame: Float[Tensor, "b 3 h w"],
    captions: Sequence[str] | Condition,
    *,
    num_frames: int,
    fps_hz: float,
    num_steps: int,
    guidance: float,
    noise: Float[Tensor, "b c f i j"] | torch.Generator | None = None,
    sampler: Sampler | None = None,
    first_latent: Float[Tensor, "b c 1 i j"] | None = None,
) -> Float[Tensor, "b c f i j"]:
    """The latents of ``generate``, before they are decoded.

    Args:
        captions: or the result of ``encode_captions``, to run the text encoder only once.
        guidance: classifier-free guidance scale; 1 runs the denoiser once per step.
        noise: the initial noise, or the generator that draws it (on its own device).
        sampler: ``Euler()`` if None.
        first_latent: the result of ``encode_first_frame``, where it is known already.

    Raises:
        ValueError: not one caption per clip, noise of a wrong shape, or replay of trained text.
        PisaError: the sampler needs the straight path, and the model is not on it.
    """
    sampler = Euler() if sampler is None else sampler
    if sampler.straight_path_only and not model.straight_path:
        raise PisaError(
            "evaluation.eta is for rectified-flow models; this one has its own schedule"
        )
    batch_size, _, height, width = first_frame.shape
    prompt = captions if isinstance(captions, Condition) else model.encode_captions(captions)
    if len(prompt.embedding) != batch_size:
        raise ValueError(f"{batch_size} first frames but {len(prompt.embedding)} captions")
    if isinstance(sampler, Euler) and sampler.replay and prompt.embedding.requires_grad:
        raise ValueError(
            "replay gives no gradient to the text encoder; checkpoint the steps instead"
        )
    shape = (batch_size, *model.latent_shape(num_frames, height, width))
    x = noise if isinstance(noise, Tensor) else draw_noise(shape, noise, first_frame)
    if x.shape != shape:
        raise ValueError(f"noise is {tuple(x.shape)}, this clip needs {shape}")
    prompt = model.with_first_frame(prompt, first_frame, num_frames)
    null = model.null_beside(prompt, first_frame, num_frames) if guidance != 1.0 else None
    given, clean = model.given_frames(x), None
    if given.any():
        if first_latent is None:
            first_latent = model.encode_first_frame(first_frame)
        clean = CleanFrames(first_latent, given)
    levels = model.sampling_levels(num_steps, num_frames, height, width)
    x = model.initial_latents(x, float(levels[0]), prompt)
    velocity = model_velocity(model, prompt, given, fps_hz, guidance, null)
    return model.final_latents(sampler.sample(velocity, x, levels, clean=clean), float(levels[-1]))


def decode_in_chunks(
    model: VideoModel, latents: Float[Tensor, "b c f i j"], num_frames: int, chunk: int | None
) -> Float[Tensor, "b 3 t h w"]:
    """Decoded clips, ``chunk`` at a time; None decodes all at once."""
    parts = latents.split(chunk or len(latents))
    return torch.cat([model.decode(part, num_frames) for part in parts])


def draw_noise(
    shape: Sequence[int], generator: torch.Generator | None, like: Tensor
) -> Float[Tensor, "b c f i j"]:
    """Standard normal noise on ``like``'s device, the same for a generator on any device kind."""
    device = like.device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=device).to(like.device)


def model_velocity(
    model: VideoModel,
    prompt: Condition,
    clean_frames: Bool[Tensor, "b f"],
    fps_hz: float,
    guidance: float,
    null: Condition | None = None,
) -> Velocity:
    """The model's velocity under classifier-free guidance, as a function of x and s alone.

    ``null`` is the condition without prompt; None asks the model for it in each step.
    """
    if guidance == 1.0:
        return lambda x, s: model.velocity(x, s, prompt, clean_frames, fps_hz=fps_hz)

    def guided(x: Tensor, s: Tensor) -> Tensor:
        # Asked in each step: a null prompt may be trained, and replay differentiates steps.
        without = model.null_condition(len(prompt.mask)) if null is None else null
        return model.guided_velocity(
            x, s, prompt, without, clean_frames, fps_hz=fps_hz, guidance=guidance
        )

    return guided
