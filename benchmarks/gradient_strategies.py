"""What each gradient strategy of ORO keeps of the full gradient, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/gradient_strategies.py [--clips 4] [--data-dir data]

Tiny model on simulated clips (made if they are missing), batch 1, float32, one thread. Prints
Markdown tables: the contribution of every denoising step to the full gradient, and a row per
strategy with, as mean over the clips,

* cosine and norm ratio of its gradient to the full one;
* the same for its *early part*, the sum over the steps of the first half of the chain, against the
  early part of the full gradient (0: the strategy has none);
* peak memory of the allocator (profiler) and median CPU time of one forward and backward pass.

CPU time, because wall-clock time on a shared machine counts other people's work. A third table
has the peak memory with more and more steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hydra
import torch
from peak_memory import peak_bytes
from torch import Tensor

from pisa.data.loaders import ClipDataset
from pisa.diffusion.replay import OtherSteps, Replay
from pisa.diffusion.samplers import Euler
from pisa.launch.compose import compose_train
from pisa.launch.runs import build_model
from pisa.launch.targets import instantiate
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise, generator_of
from pisa.tasks.gradient_steps import RandomSteps
from pisa.types import Batch, collate

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DRAWS = 2  # of the random strategies, per clip


@dataclass(frozen=True)
class Strategy:
    """``steps(draw)`` are the active ones; ``how`` is what runs them."""

    name: str
    steps: Callable[[int], Sequence[int]]
    how: str  # keep | checkpoint | replay
    other_steps: OtherSteps = "constant"
    draws: int = 1


def strategies(n: int) -> list[Strategy]:
    every, half, early = range(n), n // 2, range(n // 2)
    spread = [0, n // 3, 2 * n // 3, n - 1]

    def drawn(k: int) -> Callable[[int], Sequence[int]]:
        return lambda draw: RandomSteps(k)(n, generator_of("benchmark", k, draw))

    rows = [
        Strategy("full, graph kept", lambda _: every, "keep"),
        Strategy("full, steps checkpointed (paper)", lambda _: every, "checkpoint"),
        Strategy("replay, all steps", lambda _: every, "replay"),
        Strategy("last 1 (DRaFT-1)", lambda _: [n - 1], "checkpoint"),
        Strategy(f"last {half}", lambda _: list(range(n - half, n)), "checkpoint"),
        Strategy("random 2", drawn(2), "checkpoint", draws=DRAWS),
        Strategy(f"random {half}", drawn(half), "checkpoint", draws=DRAWS),
    ]
    for other in ("constant", "frozen"):
        rows += [
            Strategy(f"replay first 2, others {other}", lambda _: (0, 1), "replay", other),
            Strategy(f"replay first {half}, others {other}", lambda _: early, "replay", other),
            Strategy(f"replay 4 spread, others {other}", lambda _: spread, "replay", other),
            Strategy(f"replay random 2, others {other}", drawn(2), "replay", other, DRAWS),
        ]
    return rows


class Problem:
    """The ORO loss of one clip, as a function of how gradients are taken."""

    def __init__(self, cfg, batch: Batch, model, reward, steps: int, guidance: float) -> None:
        self.batch, self.model, self.reward = batch, model, reward
        self.num_steps, self.guidance = steps, guidance
        self.parameters = [p for p in model.denoiser.parameters() if p.requires_grad]
        size = batch.video.shape[2:]
        self.noise = clip_noise(batch.names, cfg.seed, model.latent_shape(*size))
        self.prompt = model.encode_captions([cfg.oro.task.caption] * len(batch))

    def loss(self, steps: Sequence[int], checkpointed: bool, replay: Replay | None) -> Tensor:
        video = generate(
            self.model,
            self.batch.first_frame,
            self.prompt,
            num_frames=self.batch.video.shape[2],
            fps_hz=self.batch.fps_hz,
            num_steps=self.num_steps,
            guidance=self.guidance,
            noise=self.noise,
            sampler=Euler(checkpointed, steps, replay),
        )
        return -self.reward(video, self.batch).mean()

    def run(self, strategy: Strategy, draw: int = 0) -> Sequence[Tensor | None]:
        """The gradient of a strategy."""
        replay = Replay(self.parameters, strategy.other_steps)
        loss = self.loss(
            strategy.steps(draw),
            strategy.how == "checkpoint",
            replay if strategy.how == "replay" else None,
        )
        return torch.autograd.grad(loss, self.parameters, allow_unused=True)

    def terms(self, strategy: Strategy, draw: int = 0) -> dict[int, Tensor]:
        """What each active step contributes to it (any strategy is a replay of its steps)."""
        found: dict[int, Tensor] = {}

        def keep(step: int, own: Sequence[Tensor | None]) -> None:
            found[step] = self.flat(own)

        replay = Replay(self.parameters, strategy.other_steps, keep)
        self.loss(strategy.steps(draw), False, replay).backward()
        self.model.zero_grad(set_to_none=True)
        return found

    def flat(self, gradient: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(gradient, self.parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def compare(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Cosine and norm ratio of a to b; 0 and 0 where a is zero."""
    size_a, size_b = a.double().norm().item(), b.double().norm().item()
    if size_a == 0 or size_b == 0:
        return 0.0, size_a / size_b if size_b else 0.0
    return (a.double() @ b.double()).item() / (size_a * size_b), size_a / size_b


def part(terms: dict[int, Tensor], steps: Sequence[int], like: Tensor) -> Tensor:
    return sum((terms[step] for step in steps if step in terms), torch.zeros_like(like))


def cost(problem: Problem, strategy: Strategy, repeats: int) -> tuple[float, float]:
    """Peak MB and median CPU seconds of one pass."""
    megabytes = peak_bytes(lambda: problem.run(strategy)) / 1e6
    times = []
    for _ in range(repeats):
        start = time.process_time()
        problem.run(strategy)
        times.append(time.process_time() - start)
    return megabytes, statistics.median(times)


def spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def step_table(full: list[dict[int, Tensor]], n: int) -> None:
    print("| step (0 is the noisiest) | norm / full | cosine to full | share of full |")
    print("|---|---|---|---|")
    totals = [part(terms, range(n), terms[0]) for terms in full]
    for step in range(n):
        found = [compare(t[step], total) for t, total in zip(full, totals, strict=True)]
        columns = zip(*[(ratio, cosine, ratio * cosine) for cosine, ratio in found], strict=True)
        print(f"| {step} | " + " | ".join(spread(column) for column in columns) + " |", flush=True)


def strategy_row(
    problems: list[Problem], full: list[dict[int, Tensor]], strategy: Strategy, repeats: int
) -> str:
    n = problems[0].num_steps
    rows = []
    for problem, true in zip(problems, full, strict=True):
        total, early = (part(true, range(k), true[0]) for k in (n, n // 2))
        for draw in range(strategy.draws):
            terms = problem.terms(strategy, draw)
            own, own_early = (part(terms, range(k), total) for k in (n, n // 2))
            rows.append((*compare(own, total), *compare(own_early, early)))
    megabytes, seconds = cost(problems[0], strategy, repeats)
    measured = " | ".join(spread(column) for column in zip(*rows, strict=True))
    return f"| {strategy.name} | {measured} | {megabytes:.0f} | {seconds:.2f} |"


def memory_table(problem: Problem) -> None:
    counts = (5, 10, 20)
    print("\n| peak MB | " + " | ".join(f"{count} steps" for count in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for row in range(3):
        cells = []
        for problem.num_steps in counts:
            strategy = strategies(problem.num_steps)[row]
            cells.append(f"{peak_bytes(partial(problem.run, strategy)) / 1e6:.0f}")
        print(f"| {strategy.name} | " + " | ".join(cells) + " |", flush=True)


def make_problems(arguments: argparse.Namespace) -> list[Problem]:
    experiment = "oro_flow" if arguments.reward == "flow" else "oro_seg"  # flow: moving pixels
    overrides = [f"experiment={experiment}", f"data_dir={arguments.data_dir}"]
    overrides += [f"reward={arguments.reward}"]
    overrides += [f"simulation.datasets.psft.num_clips={arguments.clips}"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides)
    stage = compose_train(cfg).stages[-1]
    folder = stage.sets.make("psft")
    model = build_model(stage.model, arguments.weights)
    reward = instantiate(cfg.oro.reward)
    clips = ClipDataset(folder, num_frames=cfg.data.num_frames)
    return [
        Problem(cfg, collate([clips[i]]), model, reward, arguments.steps, arguments.guidance)
        for i in range(arguments.clips)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--reward", default="flow", help="a name in configs/reward")
    parser.add_argument("--weights", type=Path, help="of the denoiser; without: the base model's")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    problems = make_problems(arguments)
    everything = strategies(arguments.steps)
    full = [problem.terms(everything[0]) for problem in problems]
    kept = everything[0]
    for problem, terms in zip(problems, full, strict=True):
        total = part(terms, range(arguments.steps), terms[0])
        cosine, ratio = compare(total, problem.flat(problem.run(kept)))
        assert abs(cosine - 1) < 1e-4 and abs(ratio - 1) < 1e-3, "the terms must sum to the whole"
    chain = f"{arguments.steps} steps, guidance {arguments.guidance:g}"
    weights = "base" if arguments.weights is None else arguments.weights.parent.name
    print(f"{len(problems)} clips, {chain}, reward {arguments.reward}, weights {weights}\n")
    step_table(full, arguments.steps)
    print("\n| strategy | cosine | norm / full | cosine, early | norm, early | peak MB | s |")
    print("|---|---|---|---|---|---|---|")
    for strategy in everything:
        print(strategy_row(problems, full, strategy, arguments.repeats), flush=True)
    memory_table(problems[0])


if __name__ == "__main__":
    main()
