"""Memory of an ORO step of Open-Sora v1.2: the real code, run with tensors that have no storage.

``pisa.doctor.live_bytes`` counts. Resident state (weights, moments, EMA) is computed, not traced.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pisa.diffusion.samplers import Euler
from pisa.doctor.live_bytes import LiveBytes, Unstored
from pisa.doctor.psft_memory import FLOAT32, count
from pisa.models.generate import generate
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.rewards.base import rewards_of
from pisa.types import Batch, Condition

COUNTED_STEPS = 3


@dataclass(frozen=True)
class Job:
    """The training to plan, one clip per GPU. ``lora_rank`` None trains all parameters."""

    num_frames: int = 32
    size_px: int = 256
    num_steps: int = 10
    guidance: float = 4.0
    lora_rank: int | None = None
    autocast: bool = True  # to bfloat16, as trainer=ddp


@dataclass(frozen=True)
class Setting:
    """A setting the planner chooses. All settings have the same, full gradient.

    Args:
        checkpoint_steps: compute each denoising step again in backward.
        recompute_blocks: compute each block of the denoiser, and each micro batch of the decoder,
            again.
        chunk: frames (or pairs) that the teacher takes at a time; None keeps the graph of all.
    """

    checkpoint_steps: bool
    recompute_blocks: bool
    chunk: int | None


@dataclass(frozen=True)
class StepBytes:
    """The most bytes alive in a step, beside what stands all the time.

    Args:
        to_reward: until the gradient has come from the reward back to the latents.
        steps: from there to the end, while the denoising steps are differentiated.
    """

    to_reward: int
    steps: int

    @property
    def peak(self) -> int:
        return max(self.to_reward, self.steps)


class WatchedModel(OpenSoraModel):
    """Notes what is alive before each call of the denoiser, and how far a step has come."""

    live: LiveBytes
    before_calls: list[int]
    to_reward: int | None
    decoding: bool

    def watch(self, live: LiveBytes) -> None:
        self.live, self.before_calls, self.to_reward, self.decoding = live, [], None, False

    def velocity(
        self,
        x: Tensor,
        noise_level: Tensor,
        condition: Condition,
        clean_frames: Tensor,
        *,
        fps_hz: float,
    ) -> Tensor:
        self.before_calls.append(self.live.now)
        return super().velocity(x, noise_level, condition, clean_frames, fps_hz=fps_hz)

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        self.decoding = True
        latents.register_hook(self._reward_done)
        return super().decode(latents, num_frames)

    def _reward_done(self, gradient: Tensor) -> None:
        self.to_reward, self.live.peak = self.live.peak, self.live.now


def count_step(
    model: WatchedModel,
    reward: nn.Module,
    sizes: Unstored,
    job: Job,
    setting: Setting,
    limit: int | None = None,
) -> StepBytes:
    """Run one step without storage; ``model`` and ``reward`` are of ``sizes``.

    Three denoising steps are run. Each further one adds what the graph of one step keeps, which is
    read off between the calls of the second and of the third.

    Raises:
        TooManyBytes: more than ``limit`` are alive.
    """
    model.denoiser.grad_checkpoint = setting.recompute_blocks
    model.vae.spatial_vae.grad_checkpoint = setting.recompute_blocks
    model.denoiser.zero_grad(set_to_none=True)
    counted = min(job.num_steps, COUNTED_STEPS)
    batch, prompt, noise = _inputs(model, sizes, job)
    with LiveBytes(limit) as live:
        model.watch(live)
        with torch.autocast("cpu", torch.bfloat16, enabled=job.autocast):
            video = generate(
                model,
                batch.first_frame,
                prompt,
                num_frames=job.num_frames,
                fps_hz=batch.fps_hz,
                num_steps=counted,
                guidance=job.guidance,
                noise=noise,
                sampler=Euler(checkpoint=setting.checkpoint_steps),
            )
            loss = -rewards_of(reward, video, batch).mean()
        del video
        loss.backward()
    assert model.to_reward is not None, "no gradient came to the latents"
    per_step = model.before_calls[2] - model.before_calls[1] if counted == COUNTED_STEPS else 0
    further = (job.num_steps - counted) * per_step
    return StepBytes(model.to_reward + further, live.peak + further)


def standing_bytes(model: OpenSoraModel, teacher: nn.Module) -> dict[str, int]:
    """Bytes there all the time; the EMA and AdamW's moments are float32. Gradients are not."""
    trained = [p for p in model.denoiser.parameters() if p.requires_grad]
    size = sum(FLOAT32 * p.numel() for p in trained)
    return {
        "weights": FLOAT32 * count(model.denoiser),
        "AdamW moments": 2 * size,
        "EMA": size,
        "VAE": _bytes(model.vae),
        "teacher": _bytes(teacher),
    }


def optimiser_bytes(model: OpenSoraModel) -> int:
    """Gradients, and one more copy that AdamW's step over lists of tensors makes."""
    return 2 * sum(FLOAT32 * p.numel() for p in model.denoiser.parameters() if p.requires_grad)


def _inputs(model: OpenSoraModel, sizes: Unstored, job: Job) -> tuple[Batch, Condition, Tensor]:
    frames, side = job.num_frames, job.size_px
    masks = torch.ones(1, 1, frames, side, side, dtype=torch.bool)
    video = sizes.tensor(1, 3, frames, side, side)
    batch = Batch(("clip",), video, masks, ("",), 16.0, torch.zeros(1))
    tokens, channels = model.denoiser.y_embedder.y_embedding.shape
    mask = torch.ones(1, tokens, dtype=torch.bool)
    noise = sizes.tensor(1, *model.latent_shape(frames, side, side))
    return batch, Condition(sizes.tensor(1, tokens, channels), mask), noise


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
