"""Memory of training Open-Sora v1.2, and the settings that fit this machine.

`pisa memory psft [--clips N] [--gpus N] [--size PX] [--frames N]`

Every number is computed: parameters are counted and the step is run with tensors that have no
storage. Nothing is measured; a GPU takes some GB more for its context, for fragments and
for workspaces of its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from torch import nn

from pisa.doctor.live_bytes import LiveBytes, Unstored, kept_by_child
from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.vae import OpenSoraVAE

GIB = 1024**3
FLOAT32 = 4
TOKENS = 300  # of T5
OVERHEAD_GIB = 4.0  # assumed: CUDA context, NCCL buffers, fragments


@dataclass(frozen=True)
class Activations:
    """Bytes of one step: kept from forward for backward, and the most alive at once."""

    kept: int
    peak: int


def count(module: nn.Module) -> int:
    """Parameters, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def components(denoiser: nn.Module) -> dict[str, int]:
    """Parameters of STDiT3 by component."""
    return {name: count(child) for name, child in denoiser.named_children()}


def state_bytes(parameters: int, trainable: int) -> dict[str, int]:
    """Float32 training state by kind, on one GPU without sharding."""
    return {
        "master weights": FLOAT32 * parameters,
        "gradients": FLOAT32 * trainable,
        "AdamW moments": 2 * FLOAT32 * trainable,
        "EMA": FLOAT32 * trainable,
    }


def denoiser_activations(
    network: STDiT3,
    sizes: Unstored,
    latent: tuple[int, int, int],
    clips: int,
    checkpointing: bool,
) -> Activations:
    """Activation bytes of one forward and backward pass of a network of ``sizes``, in its dtype."""
    network.grad_checkpoint = checkpointing
    dtype = network.x_embedder.proj.weight.dtype
    frames, height, width = latent
    x = sizes.tensor(clips, network.in_channels, frames, height, width)
    caption = sizes.tensor(clips, 1, TOKENS, _caption_channels(network), dtype=dtype)
    with LiveBytes() as live:
        out = network(
            x,
            sizes.tensor(clips),
            caption,
            mask=sizes.tensor(clips, TOKENS, dtype=torch.bool),
            x_mask=sizes.tensor(clips, frames, dtype=torch.bool),
            fps=sizes.tensor(1),
            height=torch.tensor([8.0 * height]),
            width=torch.tensor([8.0 * width]),
        )
        kept = live.now
        out.sum().backward()
    network.zero_grad(set_to_none=True)
    return Activations(kept, live.peak)


def kept_by_component(
    network: STDiT3, sizes: Unstored, latent: tuple[int, int, int], clips: int
) -> dict[str, int]:
    """Activations that each component keeps for backward when no block is recomputed."""
    return kept_by_child(
        network, lambda: denoiser_activations(network, sizes, latent, clips, checkpointing=False)
    )


def vae_peak(vae: OpenSoraVAE, sizes: Unstored, video: tuple[int, int, int]) -> int:
    """The most bytes at once while one clip is encoded without gradient."""
    frames, height, width = video
    dtype = vae.scale.dtype
    with torch.no_grad(), LiveBytes() as live:
        vae.encode(sizes.tensor(1, 3, frames, height, width, dtype=dtype), sample=True)
    return live.peak


def needed_bytes(state: dict[str, int], activations: Activations, vae: int, shards: int) -> int:
    """An upper bound of one GPU's memory in a PSFT step.

    Latents are encoded before the step, clip by clip. Gradients grow while activations go, so the
    two are never there in full together as this sum has it.
    """
    return sum(state.values()) // shards + max(activations.peak, vae)


@dataclass(frozen=True)
class StepPlan:
    """Bytes of one PSFT step on one GPU; blocks are recomputed in the backward pass."""

    network: STDiT3
    vae: OpenSoraVAE
    sizes: Unstored
    latent: tuple[int, int, int]
    state: dict[str, int]  # float32, by kind, unsharded
    activations: Activations  # of the denoiser in bfloat16
    encode: int  # the VAE's weights and the encoding of one clip

    def needs_gib(self, gpus: int) -> dict[str, float]:
        """An upper bound of one GPU's memory by trainer, with what is assumed for the driver."""
        shards = {"trainer=ddp": 1, "trainer=fsdp": gpus}
        return {
            name: needed_bytes(self.state, self.activations, self.encode, n) / GIB + OVERHEAD_GIB
            for name, n in shards.items()
        }


def plan_step(size: int, num_frames: int, clips: int) -> StepPlan:
    """Count the released network for ``clips`` of ``num_frames``, ``size`` squared."""
    with torch.device("meta"):
        network = STDiT3(freeze_y_embedder=True, class_dropout_prob=0.0)
        vae = OpenSoraVAE()
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    state = state_bytes(count(network), trainable)
    sizes = Unstored()
    network = sizes.module(network.to(torch.bfloat16))
    vae = sizes.module(vae.to(torch.bfloat16))
    latent = (vae.latent_frames(num_frames), size // 8, size // 8)
    activations = denoiser_activations(network, sizes, latent, clips, checkpointing=True)
    encode = vae_peak(vae, sizes, (num_frames, size, size)) + 2 * count(vae)
    return StepPlan(network, vae, sizes, latent, state, activations, encode)


def report(size: int, num_frames: int, clips: int, gpus: int) -> str:
    """The whole table as text."""
    plan = plan_step(size, num_frames, clips)
    network, vae = plan.network, plan.vae
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    lines = [
        f"Open-Sora v1.2, {num_frames} frames of {size}x{size}, latents {plan.latent}.",
        "All numbers are computed, none is measured.",
        "",
        f"STDiT3-XL/2: {count(network):,} parameters, {trainable:,} of them trained",
        *(f"  {name:16}{n:>16,}" for name, n in components(network).items()),
        f"VAE: {count(vae):,} parameters "
        f"(spatial {count(vae.spatial_vae):,}, temporal {count(vae.temporal_vae):,})",
        "",
        "Training state, float32, one GPU unsharded (AdamW):",
        *(f"  {name:16}{n / GIB:8.2f} GiB" for name, n in plan.state.items()),
        f"  {'sum':16}{sum(plan.state.values()) / GIB:8.2f} GiB",
        "",
        f"Activations of the denoiser in bfloat16, {clips} clips: kept for backward / at the peak",
    ]
    whole = denoiser_activations(network, plan.sizes, plan.latent, clips, checkpointing=False)
    for name, step in (("recomputed by block", plan.activations), ("all kept", whole)):
        lines.append(f"  {name:22}{step.kept / GIB:8.1f} GiB / {step.peak / GIB:.1f} GiB")
    parts = kept_by_component(network, plan.sizes, plan.latent, clips)
    lines += ["Of what is kept without recomputing, by component:"]
    lines += [f"  {name:22}{n / GIB:8.2f} GiB" for name, n in parts.items()]
    lines += [f"VAE, weights and encoding of one clip: {plan.encode / GIB:.2f} GiB", ""]
    lines += fits(plan, clips, gpus)
    return "\n".join(lines)


def fits(plan: StepPlan, clips: int, gpus: int) -> list[str]:
    """Lines that say where the step has room."""
    lines = [f"One GPU of {gpus}, {clips} clips at a time, blocks recomputed, at most:"]
    for name, need in plan.needs_gib(gpus).items():
        verdicts = [
            f"{where}: {'fits' if need <= room else 'too much'}" for where, room in _rooms()
        ]
        lines.append(f"  {name:13}{need:7.1f} GiB; " + "; ".join(verdicts))
    lines += [
        f"{OVERHEAD_GIB:g} GiB of that are assumed for the driver and fragments. trainer=ddp",
        "computes by autocast: activations between blocks are float32, up to twice those above.",
    ]
    return lines


def _rooms() -> list[tuple[str, float]]:
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return [(f"this machine's {c.name}", c.total_memory / GIB) for c in cards[:1]]
    memory = psutil.virtual_memory().total / GIB
    return [("80 GiB GPU", 80.0), (f"this machine, no GPU, {memory:.0f} GiB of memory", memory)]


def _caption_channels(network: STDiT3) -> int:
    return network.y_embedder.y_embedding.shape[1]
