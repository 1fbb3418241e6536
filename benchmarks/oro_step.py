"""Time one ORO step against a plain implementation of the same mathematics.

    OMP_NUM_THREADS=1 python benchmarks/oro_step.py [--repeats 5] [--data-dir data]

The plain one is written like the paper's release: frame pairs go through the flow teacher one by
one, the flow of the true clip is computed again in every step and with gradient (the teacher's
weights require it, too), every block of the denoiser is checkpointed, and the caption is encoded in
the step. Ours is the code of the ORO task: all pairs in one batch, the true flow without gradient,
the caption encoded once, and the graph of the denoising steps kept (``checkpoint_steps: false``) or
recomputed per step; in the last variant the true flow is cached, as when clips come again. The
tiny model has no text encoder worth the name, so that part costs nothing here.

Tiny model on simulated clips, float32, one thread. The gradients of all parameters are asserted to
agree; printed are medians of CPU time (wall-clock time on a shared machine counts other people's
work), variants taking turns, split into five parts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import hydra
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pisa.data.loaders import ClipDataset
from pisa.diffusion.noise_levels import inference_noise_levels
from pisa.diffusion.path import CleanFrames
from pisa.diffusion.samplers import Euler
from pisa.launch.compose import resolved
from pisa.launch.simulate import declare_data_sets
from pisa.launch.targets import instantiate
from pisa.models.generate import model_velocity
from pisa.ops.seeding import clip_noise
from pisa.perception.embedded_flow import EmbeddedFlow
from pisa.rewards.flow import MOVING_PX, FlowReward
from pisa.types import Batch, Condition, collate

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PARTS = ("sample", "decode", "reward", "backward to latents", "backward of steps")


@dataclass
class Step:
    """One gradient of the ORO loss. ``marks`` are CPU seconds of each of ``PARTS``."""

    model: nn.Module
    batch: Batch
    noise: Tensor
    num_steps: int
    guidance: float
    caption: str
    marks: dict[str, float] = field(default_factory=dict)

    def run(
        self,
        prompt: Callable[[], Condition],
        reward: Callable[[Tensor], Tensor],
        checkpoint_steps: bool,
    ) -> list[Tensor]:
        """The gradient is cut at the latents, to time both sides; the product is the same."""
        self.model.zero_grad(set_to_none=True)
        frames, height, width = self.batch.video.shape[2:]
        clean = self.model.given_frames(self.noise)
        with self._timed("sample"):
            fps_hz = self.batch.fps_hz
            velocity = model_velocity(self.model, prompt(), clean, fps_hz, self.guidance)
            shift = self.model.noise_schedule_shift(frames, height, width)
            first = self.model.encode_first_frame(self.batch.first_frame)
            levels = inference_noise_levels(self.num_steps, shift)
            latents = Euler(checkpoint=checkpoint_steps).sample(
                velocity, self.noise, levels, clean=CleanFrames(first, clean)
            )
        cut = latents.detach().requires_grad_()
        with self._timed("decode"):
            video = self.model.decode(cut, frames)
        with self._timed("reward"):
            loss = -reward(video).mean()
        with self._timed("backward to latents"):
            loss.backward()
        with self._timed("backward of steps"):
            latents.backward(cut.grad)
        gradients = [p.grad for p in self.model.denoiser.parameters() if p.grad is not None]
        return [gradient.clone() for gradient in gradients]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.marks[part] = time.process_time() - start


def ours(step: Step, reward: FlowReward, checkpoint_steps: bool) -> list[Tensor]:
    prompt = step.model.encode_captions([step.caption] * len(step.batch))
    return step.run(lambda: prompt, lambda video: reward(video, step.batch), checkpoint_steps)


def plain(step: Step, teacher: EmbeddedFlow, frozen: bool) -> list[Tensor]:
    teacher.requires_grad_(not frozen)
    blocks = list(step.model.denoiser.blocks)
    for block in blocks:
        block.forward = partial(checkpoint, type(block).forward, block, use_reentrant=False)
    try:
        return step.run(
            lambda: step.model.encode_captions([step.caption] * len(step.batch)),
            lambda video: plain_reward(video, step.batch, teacher),
            False,
        )
    finally:
        for block in blocks:
            del block.forward
        teacher.zero_grad(set_to_none=True)
        teacher.requires_grad_(False)


def plain_reward(video: Tensor, batch: Batch, teacher: EmbeddedFlow) -> Tensor:
    """The reward ``FlowReward(region="moving")``, clip by clip and pair by pair."""
    rewards = []
    for clip in range(len(batch)):
        total = count = torch.zeros(())
        for t in range(video.shape[2] - 1):
            made = teacher.flow(video[clip : clip + 1, :, t : t + 2])
            true = teacher.flow(batch.video[clip : clip + 1, :, t : t + 2])
            moving = (made.norm(dim=1) > MOVING_PX) | (true.norm(dim=1) > MOVING_PX)
            total = total + ((made - true).abs().mean(dim=1) * moving).sum()
            count = count + moving.sum()
        rewards.append(-total / count.clamp(min=1))
    return torch.stack(rewards)


def assert_equal(found: list[Tensor], expected: list[Tensor], name: str) -> float:
    """Relative error of the whole gradient; raises above 1e-4."""
    assert len(found) == len(expected)
    a, b = (torch.cat([g.flatten() for g in each]).double() for each in (found, expected))
    error = ((a - b).norm() / b.norm()).item()
    assert error < 1e-4, f"{name}: gradients differ by {error:.1e}"
    return error


def make_step(arguments: argparse.Namespace) -> Step:
    overrides = ["experiment=oro_flow", f"data_dir={arguments.data_dir}"]
    overrides += [f"simulation.datasets.psft.num_clips={arguments.batch}"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides)
    folder = declare_data_sets(resolved(cfg)).make("psft")
    clips = ClipDataset(folder, num_frames=cfg.data.num_frames)
    batch = collate([clips[i] for i in range(arguments.batch)])
    model = instantiate(cfg.model)
    noise = clip_noise(batch.names, cfg.seed, model.latent_shape(*batch.video.shape[2:]))
    return Step(model, batch, noise, arguments.steps, arguments.guidance, cfg.oro.task.caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    step, teacher = make_step(arguments), EmbeddedFlow.from_pretrained()
    reward = FlowReward(teacher, region="moving")
    seen = FlowReward(teacher, region="moving", cache_clips=arguments.batch)
    variants = {
        "plain": partial(plain, step, teacher, frozen=False),
        "plain, teacher's weights frozen": partial(plain, step, teacher, frozen=True),
        "ours, steps checkpointed": partial(ours, step, reward, checkpoint_steps=True),
        "ours, graph kept": partial(ours, step, reward, checkpoint_steps=False),
        "ours, graph kept, clips seen before": partial(ours, step, seen, checkpoint_steps=False),
    }
    expected = variants["plain"]()
    variants["ours, graph kept, clips seen before"]()
    times: dict[str, list[list[float]]] = {name: [] for name in variants}
    errors: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for name, variant in variants.items():
            errors[name] = assert_equal(variant(), expected, name)
            times[name].append([step.marks[part] for part in PARTS])
    size = f"{arguments.batch} clips, {arguments.steps} steps, guidance {arguments.guidance:g}"
    print(f"{size}: median CPU seconds of {arguments.repeats} repeats\n")
    print(f"| variant | step | plain / it | {' | '.join(PARTS)} | gradient error |")
    print("|---|" + "---|" * (len(PARTS) + 3))
    reference = statistics.median(map(sum, times["plain"]))
    for name, rows in times.items():
        whole = statistics.median(map(sum, rows))
        parts = " | ".join(f"{statistics.median(part):.2f}" for part in zip(*rows, strict=True))
        ratio = f"{reference / whole:.2f}"
        print(f"| {name} | {whole:.2f} | {ratio} | {parts} | {errors[name]:.0e} |")


if __name__ == "__main__":
    main()
