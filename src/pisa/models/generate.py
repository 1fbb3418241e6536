"""Image-to-video generation with any ``VideoModel``; ORO and evaluation both use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.replay import Replay
from pisa.diffusion.samplers import (
    Velocity,
    guided_velocity,
    sample_ancestral,
    sample_euler,
)
from pisa.models.base import (
    GuidesItself,
    HasSchedule,
    TakesFirstFrame,
    VideoModel,
    given_frames,
    with_first_frame,
)
from pisa.types import Condition, PisaError


def generate(
    model: VideoModel,
    first_frame: Float[Tensor, "b 3 h w"],
    captions: Sequence[str] | Condition,
    *,
    num_frames: int,
    fps_hz: float,
    num_steps: int,
    guidance: float,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "b c f i j"] | None = None,
    checkpoint_steps: bool = False,
    grad_steps: Collection[int] | None = None,
    replay: Replay | None = None,
    decode_chunk: int | None = None,
    first_latent: Float[Tensor, "b c 1 i j"] | None = None,
    eta: float = 0.0,
    step_noise: Callable[[int], Float[Tensor, "b c f i j"]] | None = None,
) -> Float[Tensor, "b 3 t h w"]:
    """Clips that continue ``first_frame``, nominally in [-1, 1], not clamped.

    Carries gradient to the denoiser; callers that want none wrap it in ``torch.no_grad``.

    Args:
        captions: or what ``encode_captions`` makes of them, to run the text encoder only once.
        guidance: classifier-free guidance scale; 1 runs the denoiser once per step.
        generator: source of the initial noise, drawn on the generator's device.
        noise: the initial noise itself, instead of ``generator``.
        checkpoint_steps: recompute each step in backward (memory of one step, one more forward).
        grad_steps, replay: see ``sample_euler``.
        decode_chunk: clips per ``decode`` call; None decodes all at once.
        first_latent: what ``encode_first_frame`` made of ``first_frame``, where it is at hand.
        eta, step_noise: above 0, sample by ``sample_ancestral`` with this fresh noise of each step
            instead of by ``sample_euler`` (and without ``checkpoint_steps`` and what follows it).

    Raises:
        ValueError: not one caption per clip, noise of a wrong shape, replay of trained text, or eta
            without ``step_noise``.
        PisaError: ``eta`` for a model that isn't on the straight path from noise to clip.
    """
    if eta and isinstance(model, HasSchedule):
        raise PisaError(
            "evaluation.eta is for rectified-flow models; this one has its own schedule"
        )
    if eta and step_noise is None:
        raise ValueError("eta needs the fresh noise of each step")
    batch_size, _, height, width = first_frame.shape
    prompt = captions if isinstance(captions, Condition) else model.encode_captions(captions)
    if len(prompt.embedding) != batch_size:
        raise ValueError(f"{batch_size} first frames but {len(prompt.embedding)} captions")
    if replay is not None and prompt.embedding.requires_grad:
        raise ValueError(
            "replay gives no gradient to the text encoder; checkpoint the steps instead"
        )
    shape = (batch_size, *model.latent_shape(num_frames, height, width))
    if noise is None:
        noise = draw_noise(shape, generator, first_frame)
    if noise.shape != shape:
        raise ValueError(f"noise is {tuple(noise.shape)}, this clip needs {shape}")
    prompt = with_first_frame(model, prompt, first_frame, num_frames)
    null = _null(model, prompt, first_frame, num_frames) if guidance != 1.0 else None
    clean_frames = given_frames(model, noise)
    any_given = bool(clean_frames.any())
    if any_given and first_latent is None:
        first_latent = model.encode_first_frame(first_frame)
    levels = _levels(model, num_steps, num_frames, height, width)
    if isinstance(model, HasSchedule):
        noise = model.initial_latents(noise, float(levels[0]), prompt)
    velocity = model_velocity(model, prompt, clean_frames, fps_hz, guidance, null)
    clean = first_latent if any_given else None
    given = clean_frames if any_given else None
    if eta and step_noise is not None:
        latents = sample_ancestral(
            velocity, noise, levels, eta, step_noise, clean=clean, clean_frames=given
        )
    else:
        latents = sample_euler(
            velocity,
            noise,
            levels,
            clean=clean,
            clean_frames=given,
            checkpoint_steps=checkpoint_steps,
            grad_steps=grad_steps,
            replay=replay,
        )
    if isinstance(model, HasSchedule):
        latents = model.final_latents(latents, float(levels[-1]))
    chunks = latents.split(decode_chunk or batch_size)
    return torch.cat([model.decode(chunk, num_frames) for chunk in chunks])


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
    if isinstance(model, GuidesItself) and null is not None:
        told = partial(model.guided_velocity, fps_hz=fps_hz, guidance=guidance)
        return lambda x, s: told(x, s, prompt, null, clean_frames)
    twice = clean_frames.repeat(2, 1)

    def velocity_both(x: Tensor, s: Tensor) -> Tensor:
        # Made anew in each step: a null prompt may be trained, and replay differentiates steps.
        both = _stack(prompt, null or model.null_condition(len(prompt.mask)))
        return model.velocity(x, s, both, twice, fps_hz=fps_hz)

    weight: float | Tensor = guidance
    if isinstance(model, HasSchedule):
        weight = model.guidance_weight(guidance, clean_frames.shape[1])
    return guided_velocity(velocity_both, weight)


def _levels(
    model: VideoModel, num_steps: int, num_frames: int, height: int, width: int
) -> Float[Tensor, " n"]:
    if isinstance(model, HasSchedule):
        return model.sampling_levels(num_steps, num_frames, height, width)
    return inference_noise_levels(num_steps, model.noise_schedule_shift(num_frames, height, width))


def _null(
    model: VideoModel, prompt: Condition, first_frame: Tensor, num_frames: int
) -> Condition | None:
    """The null condition with the first frame; it is no trained parameter of such models."""
    if not isinstance(model, TakesFirstFrame):
        return None
    return model.null_beside(prompt, first_frame, num_frames)


def _stack(prompt: Condition, null: Condition) -> Condition:
    """Prompt rows, then null rows; a null row with an empty mask takes that of its prompt."""
    null_mask = torch.where(null.mask.any(dim=1, keepdim=True), null.mask, prompt.mask)
    filled_in = None if null.null is None else torch.cat([torch.zeros_like(null.null), null.null])
    return Condition(
        torch.cat([prompt.embedding, null.embedding]),
        torch.cat([prompt.mask, null_mask]),
        filled_in,
        {name: torch.cat([rows, null.image[name]]) for name, rows in prompt.image.items()},
    )
