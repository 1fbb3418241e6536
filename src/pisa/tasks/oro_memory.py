"""Memory of an ORO step, counted on torch's "meta" device; the arithmetic of `oro_planner`.

A step has two phases that never overlap: first the graph from the latents to the reward (decoder
and teacher), then the denoising steps in reverse. Both stand on weights, optimiser state and EMA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pisa.models.live_bytes import LiveBytes
from pisa.models.lora import linear_layers_of_blocks
from pisa.models.opensora.doctor import (
    FLOAT32,
    count,
    denoiser_activations,
    fused_attention,
    state_bytes,
)
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.vae import OpenSoraVAE


@dataclass(frozen=True)
class Job:
    """What is to be trained; one clip per GPU. ``lora_rank`` None trains all parameters."""

    num_frames: int = 32
    size_px: int = 256
    num_steps: int = 10
    guidance: float = 4.0
    lora_rank: int | None = None


@dataclass(frozen=True)
class Setting:
    """What the planner chooses. All settings have the same, full gradient.

    Args:
        checkpoint_steps: compute each denoising step again in backward.
        recompute_blocks: compute each block of the denoiser, and each part of the decoder, again.
        chunk: frames (or pairs) that the teacher takes at a time; None keeps the graph of all.
    """

    checkpoint_steps: bool
    recompute_blocks: bool
    chunk: int | None


def state(network: nn.Module, lora_rank: int | None) -> dict[str, int]:
    """Bytes of weights, gradients, AdamW's moments and EMA by kind, all float32."""
    if lora_rank is None:
        trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
        return state_bytes(count(network), trainable)
    adapter = adapter_parameters(network, lora_rank)
    return state_bytes(count(network) + adapter, adapter)


def adapter_parameters(network: nn.Module, rank: int) -> int:
    """Parameters of LoRA of all linear layers of the blocks: ``rank (in + out)`` of each."""
    layers = [network.get_submodule(name) for name in linear_layers_of_blocks(network)]
    sides = [side for layer in layers for side in (layer.in_features, layer.out_features)]
    return rank * sum(int(cast(int, side)) for side in sides)


def chain_bytes(network: STDiT3, vae: OpenSoraVAE, job: Job, setting: Setting) -> int:
    """Most bytes alive while the denoising steps are differentiated, parameter gradients left out.

    The network is on "meta" and in the type that activations have.
    """
    side = job.size_px // 8
    latent = (vae.latent_frames(job.num_frames), side, side)
    rows = 1 if job.guidance == 1.0 else 2
    with _gradients_dropped(network):
        step = denoiser_activations(network, latent, rows, setting.recompute_blocks)
    path = FLOAT32 * vae.latent_channels * latent[0] * latent[1] * latent[2]
    if setting.checkpoint_steps:
        return step.peak + 2 * job.num_steps * path  # x of every step, and its velocity
    return job.num_steps * (step.kept + 2 * path) + step.peak - step.kept


def reward_bytes(
    vae: OpenSoraVAE, score: Callable[[Tensor], Tensor], job: Job, recompute: bool
) -> int:
    """Most bytes alive from the latents to the reward and back; ``vae`` is on "meta"."""
    vae.spatial_vae.grad_checkpoint = recompute
    side = job.size_px // 8
    with torch.device("meta"):
        shape = (1, vae.latent_channels, vae.latent_frames(job.num_frames), side, side)
        latents = torch.empty(shape, requires_grad=True)
    with torch.device("meta"), fused_attention(), LiveBytes() as live:
        video = vae.decode(latents.to(vae.scale.dtype), job.num_frames).float()
        score(video).sum().backward()
    return live.peak


@contextmanager
def _gradients_dropped(network: nn.Module) -> Iterator[None]:
    """Parameter gradients are dropped as soon as they are whole: ``state`` counts them."""
    trained = [p for p in network.parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in trained]
    yield
    for hook in hooks:
        hook.remove()


def _drop(parameter: Tensor) -> None:
    parameter.grad = None
