"""Which settings of PSFT and ORO fit which GPUs, for any ``VideoModel``.

The code of a step runs with tensors that have no storage, and ``LiveBytes`` counts them. Resident
state (weights, moments, EMA) is computed, not traced. Nothing is measured. The loss and the
gradient are the same in all settings: per-step checkpointing already takes the memory of a single
denoising step, so fewer steps with gradient or replay save time, not memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pisa.diffusion.path import CleanFrames
from pisa.diffusion.samplers import Euler, OnStep, Velocity
from pisa.doctor.live_bytes import LiveBytes, TooManyBytes, Unstored
from pisa.doctor.teachers import REWARDS
from pisa.errors import PisaError
from pisa.models.base import VideoModel
from pisa.models.generate import generate_latents
from pisa.models.lora import add_lora
from pisa.models.opensora.adapter import OpenSoraModel
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.vae import OpenSoraVAE
from pisa.models.tiny_text import WordHashEncoder
from pisa.ops.devices import dtype_of
from pisa.rewards.base import rewards_of
from pisa.types import Batch, Condition

GB = 10**9
FLOAT32 = 4  # bytes
ASSUMED = 2 * GB  # CUDA's context, workspaces of kernels, fragments
ASSUMED_NCCL = 2 * GB  # with several GPUs
TOO_MUCH = 1 << 60  # bytes of a count that was given up
PSFT_CLIPS = 128  # of one optimiser step (paper section 4.2)
COUNTED_STEPS = 3
FPS_HZ = 16.0


@dataclass(frozen=True)
class Job:
    """The training to plan.

    ``lora_rank`` None trains all parameters. ``dtype`` is the denoiser's weights' (adapters are
    float32 in any case).
    """

    stage: str = "psft"
    reward: str = "flow"  # of ORO, a name of ``REWARDS``
    num_frames: int = 32
    size_px: int = 256
    num_steps: int = 10
    guidance: float = 4.0
    lora_rank: int | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class Setting:
    """The settings that the planner chooses.

    Args:
        sharded: trainer=fsdp (the denoiser computes in bfloat16); else one copy of the state on
            each GPU, trainer=ddp (autocast to bfloat16).
        recompute_steps: compute each denoising step of ORO again in backward.
        recompute_blocks: compute each block of the denoiser, and each micro batch of the decoder,
            again.
        chunk: frames (or pairs) that ORO's teacher takes at a time; None keeps the graph of all.
        clips: in a micro-batch of one GPU.
        accumulate: micro-batches of one optimiser step.
    """

    sharded: bool = False
    recompute_steps: bool = False
    recompute_blocks: bool = True
    chunk: int | None = None
    clips: int = 1
    accumulate: int = 1


class Activations(NamedTuple):
    """Bytes that operations made: kept from forward for backward, and the most alive at once."""

    kept: int
    peak: int


@dataclass(frozen=True)
class Plan:
    """A setting and its bytes on one of ``gpus`` GPUs.

    Args:
        resident: what is there all the time.
        phases: the most that each phase of a step adds; phases follow one another.
    """

    setting: Setting
    gpus: int
    resident: dict[str, int]
    phases: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.resident.values()) + max(self.phases.values())


class Planner:
    """Finds the fastest setting that fits.

    Args:
        job: the training to plan.
        limit: counts of more bytes are given up.
        build: makes the model on "meta"; the default is the released size of Open-Sora v1.2.
    """

    def __init__(
        self, job: Job, limit: int | None = None, build: Callable[[], VideoModel] | None = None
    ) -> None:
        self.job, self.limit, self.sizes = job, limit, Unstored()
        with torch.device("meta"):
            models = [(build or partial(full_size, job.dtype))() for _ in range(2)]
            for model in models:
                if job.lora_rank is not None:
                    add_lora(model.denoiser, job.lora_rank)
        models[1].denoiser.to(torch.bfloat16)  # FSDP computes in it
        self.ddp, self.fsdp = (self.sizes.module(model) for model in models)
        self._reward = cache(partial(REWARDS[job.reward].build, self.sizes))
        self._count = cache(self._counted)

    def choose(self, memory_bytes: float, gpus: int) -> Plan | None:
        """The first setting that fits on every GPU, fastest first; None where none does."""
        for setting in self.settings(gpus):
            # Counting takes seconds; the optimiser's step alone rules many settings out.
            if self.plan(setting, gpus, counted=False).total <= memory_bytes:
                plan = self.plan(setting, gpus)
                if plan.total <= memory_bytes:
                    return plan
        return None

    def settings(self, gpus: int) -> Iterator[Setting]:
        """Fastest first. Raises ``PisaError`` where the clips cannot be divided among the GPUs."""
        # FSDP shards weights of one dtype only, and LoRA's adapters are float32.
        mixed = self.job.lora_rank is not None and self.job.dtype != "float32"
        trainers = (False, True) if gpus > 1 and not mixed else (False,)
        if self.job.stage == "oro":
            chunks = REWARDS[self.job.reward].chunks
            recomputed = ((False, False), (True, False), (False, True), (True, True))
            for (steps, blocks), chunk, sharded in product(recomputed, chunks, trainers):
                yield Setting(sharded, steps, blocks, chunk)
            return
        each, left = divmod(PSFT_CLIPS, gpus)
        if left:
            raise PisaError(f"{PSFT_CLIPS} clips cannot be divided among {gpus} GPUs")
        for clips, sharded in product(range(each, 0, -1), trainers):
            if each % clips == 0:
                yield Setting(sharded, clips=clips, accumulate=each // clips)

    def plan(self, setting: Setting, gpus: int, counted: bool = True) -> Plan:
        """Bytes of one setting; without ``counted``, only of the phase that needs no counting."""
        resident = resident_bytes(self.ddp, gpus, setting)
        trained = FLOAT32 * parameters(self.ddp.denoiser, trained=True)
        # Twice: AdamW's step over lists of tensors makes a copy.
        adamw = 2 * trained // (gpus if setting.sharded else 1)
        phases = {"gradients and AdamW": adamw}
        denoiser = partial(self._count, setting.sharded, setting.recompute_blocks)
        codec = partial(self._count, False, setting.recompute_blocks)  # not sharded
        if self.job.stage == "oro":
            resident["teacher"] = module_bytes(self._reward(None))
        if counted and self.job.stage == "oro":
            steps = denoiser(Counter.sampling, setting.recompute_steps)
            reward = codec(Counter.reward, self._reward(setting.chunk))
            phases["sampling, decoder, reward and back"] = steps.kept + reward.peak
            phases["denoising steps, forward and back"] = steps.peak
        elif counted:
            phases["denoiser, forward and back"] = denoiser(Counter.psft, setting.clips).peak
            phases["encoding a clip"] = codec(Counter.encoding).peak
        return Plan(setting, gpus, resident, phases)

    def _counted(
        self, sharded: bool, blocks: bool, phase: Callable[..., Activations], *options: Any
    ) -> Activations:
        model = self.fsdp if sharded else self.ddp
        for module in model.modules():
            if hasattr(module, "grad_checkpoint"):
                module.grad_checkpoint = blocks  # type: ignore[assignment]
        try:
            return phase(Counter(model, self.sizes, self.job, not sharded, self.limit), *options)
        except TooManyBytes:
            return Activations(TOO_MUCH, TOO_MUCH)


@dataclass(frozen=True)
class Counter:
    """Runs the phases of a step without storage.

    Args:
        model: of ``sizes``, as the reward is.
        autocast: to bfloat16.
        limit: in bytes; where more are alive, every method raises ``TooManyBytes``.
    """

    model: VideoModel
    sizes: Unstored
    job: Job
    autocast: bool
    limit: int | None = None

    def psft(self, clips: int) -> Activations:
        """A forward and backward pass of stage 1, on the latents of ``clips`` clips."""
        latents = self.sizes.tensor(clips, *self.latent_shape)
        noise, levels = torch.empty_like(latents), self.sizes.tensor(clips)
        prompt = self._prompt(clips)
        with self._live() as live:
            with self._autocast():
                x = torch.lerp(latents, noise, 0.5)
                given = self.model.given_frames(x)
                velocity = self.model.velocity(x, levels, prompt, given, fps_hz=FPS_HZ)
                loss = (velocity - (noise - latents)).square().mean()
            kept = live.now
            loss.backward()
        return Activations(kept, live.peak)

    @torch.no_grad()
    def encoding(self) -> Activations:
        """A clip to latents, without gradient."""
        video = self._video()
        with self._live() as live:
            self.model.encode(video)
        return Activations(live.now, live.peak)

    def sampling(self, recompute_steps: bool) -> Activations:
        """The latents of one clip through all denoising steps, and the gradient back.

        Three steps are run. Each further one adds what the graph of one step keeps, which is read
        off between the second and the third.
        """
        shape, steps = self.latent_shape, min(self.job.num_steps, COUNTED_STEPS)
        frame, prompt, noise = self._video()[:, :, 0], self._prompt(1), self.sizes.tensor(1, *shape)
        first_latent = self.sizes.tensor(1, shape[0], 1, *shape[2:])
        with self._live() as live:
            watched = _WatchedSteps(Euler(checkpoint=recompute_steps), live)
            with self._autocast():
                latents = generate_latents(
                    self.model,
                    frame,
                    prompt,
                    num_frames=self.job.num_frames,
                    fps_hz=FPS_HZ,
                    num_steps=steps,
                    guidance=self.job.guidance,
                    noise=noise,
                    sampler=watched,
                    first_latent=first_latent,
                )
            kept = live.now
            latents.sum().backward()
        per_step = watched.alive[2] - watched.alive[1] if steps == COUNTED_STEPS else 0
        further = (self.job.num_steps - steps) * per_step
        return Activations(kept + further, live.peak + further)

    def reward(self, reward: nn.Module) -> Activations:
        """One clip's latents to the reward, and back to the latents."""
        video = self._video()
        masks = torch.ones(1, 1, *video.shape[2:], dtype=torch.bool)
        batch = Batch(("clip",), video, masks, ("",), FPS_HZ, torch.zeros(1))
        latents = self.sizes.tensor(1, *self.latent_shape).requires_grad_()
        with self._live() as live:
            with self._autocast():
                made = self.model.decode(latents, self.job.num_frames)
                loss = -rewards_of(reward, made, batch).mean()
            del made
            kept = live.now
            loss.backward()
        return Activations(kept, live.peak)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return self.model.latent_shape(self.job.num_frames, self.job.size_px, self.job.size_px)

    def _live(self) -> LiveBytes:
        self.model.zero_grad(set_to_none=True)
        return LiveBytes(self.limit)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.autocast)

    def _video(self) -> Tensor:
        return self.sizes.tensor(1, 3, self.job.num_frames, self.job.size_px, self.job.size_px)

    def _prompt(self, clips: int) -> Condition:
        null = self.model.null_condition(clips)
        embedding = self.sizes.tensor(*null.embedding.shape)
        return Condition(embedding, torch.ones(null.mask.shape, dtype=torch.bool))


def resident_bytes(model: VideoModel, gpus: int, setting: Setting) -> dict[str, int]:
    """Bytes that one GPU holds all the time, by kind; moments and EMA are float32.

    FSDP's shards hold the gradients too: an upper bound, since gradients grow while activations go.
    Of DDP's gradients only those beyond the ones that a step makes are in it.
    """
    trained = FLOAT32 * parameters(model.denoiser, trained=True)
    state = {
        "weights": sum(p.numel() * p.element_size() for p in model.denoiser.parameters()),
        "AdamW moments": 2 * trained,
        "EMA": trained,
    }
    if setting.sharded:
        state["gradients"] = trained
        state = {name: size // gpus for name, size in state.items()}
    else:
        if setting.accumulate > 1:
            state["gradients of other micro-batches"] = trained
        if gpus > 1:
            state["DDP's buckets"] = trained
    state["codec"] = module_bytes(model) - module_bytes(model.denoiser)
    state["assumed (driver, fragments)"] = ASSUMED + (ASSUMED_NCCL if gpus > 1 else 0)
    return state


def parameters(module: nn.Module, trained: bool = False) -> int:
    """Number of parameters; frozen ones included unless ``trained``."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def module_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def full_size(dtype: str = "float32") -> OpenSoraModel:
    """Open-Sora v1.2 as ``scale=paper`` builds it, but for the weights and the text encoder."""
    network = STDiT3(freeze_y_embedder=True, class_dropout_prob=0.0).to(dtype_of(dtype))
    return OpenSoraModel(network, OpenSoraVAE().to(torch.bfloat16), WordHashEncoder(1, 1))


@dataclass
class _WatchedSteps:
    """A sampler that notes the bytes alive after each step."""

    straight_path_only: ClassVar[bool] = False
    sampler: Euler
    live: LiveBytes
    alive: list[int] = field(default_factory=list)

    def sample(
        self,
        velocity: Velocity,
        x: Tensor,
        levels: Tensor,
        *,
        clean: CleanFrames | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        def note(step: int, x: Tensor) -> None:
            self.alive.append(self.live.now)

        return self.sampler.sample(velocity, x, levels, clean=clean, on_step=note)
