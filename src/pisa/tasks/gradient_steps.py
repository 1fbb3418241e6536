"""Which denoising steps of ORO carry gradient. The paper uses all of them (Eq. 9).

Each class maps ``(num_steps, generator)`` to the indices (0 is the first step, at pure noise) that
are differentiated. All but ``FullGradient`` are deviations that save memory and time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pisa.diffusion.replay import Replay
from pisa.errors import PisaError


class GradientWindow(ABC):
    """Chooses the denoising steps that carry gradient."""

    equal_norm: bool = False  # scale the chosen steps' contributions to one norm

    @abstractmethod
    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        """Ascending step indices in ``[0, num_steps)``."""


class FullGradient(GradientWindow):
    """Every step (paper Appendix C, Eq. 9)."""

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return list(range(num_steps))


class EqualSteps(GradientWindow):
    """The steps of another window (default: all), each contributing with the same norm (deviation).

    In the full gradient the last step outweighs the first ones, which decide the motion, by far.
    Each contribution is scaled to the mean of their norms, per process and micro-batch. Needs
    ``replay``, with ``other_steps`` "frozen" for a window that leaves steps out.
    """

    equal_norm = True

    def __init__(self, window: GradientWindow | None = None) -> None:
        self.window = window or FullGradient()

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return self.window(num_steps, generator)


class LastSteps(GradientWindow):
    """The last ``k`` steps (deviation: truncated back-propagation, DRaFT-K, arXiv:2309.17400)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return list(range(max(0, num_steps - self.k), num_steps))


class FirstSteps(GradientWindow):
    """The first ``k`` steps, those at high noise that decide the motion (deviation)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return list(range(min(self.k, num_steps)))


class SpreadSteps(GradientWindow):
    """``k`` steps evenly over the chain, both ends among them; one is the first (deviation)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        k = min(self.k, num_steps)
        return [i * (num_steps - 1) // max(1, k - 1) for i in range(k)]


class RandomSteps(GradientWindow):
    """``k`` steps drawn for every batch, none twice (deviation: DRTune, arXiv:2405.00760)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return sorted(torch.randperm(num_steps, generator=generator)[: self.k].tolist())


def _positive(k: int) -> int:
    if k < 1:
        raise PisaError(f"the number of steps with gradient must be at least 1, not {k}")
    return k


Gradient = Sequence[Tensor | None]
"""Gradient of each parameter; None where the loss does not depend on it."""


@dataclass(frozen=True)
class StepGradients:
    """The terms ``g_k`` of ``dL/dw = sum_k g_k``, one per denoising step (0 is the noisiest)."""

    norms: list[float]
    cosines: list[float]  # of g_k to the full gradient
    full: Gradient

    @property
    def shares(self) -> list[float]:
        """``<g_k, g> / <g, g>``: how much of the full gradient each step makes; they sum to 1."""
        total = norm(self.full)
        terms = zip(self.norms, self.cosines, strict=True)
        return [_ratio(length * direction, total) for length, direction in terms]


def step_gradients(
    loss_of: Callable[[Replay], Tensor], parameters: Sequence[Tensor]
) -> StepGradients:
    """Exact terms by two replays of the chain; ``.grad`` is not touched.

    ``loss_of`` samples with the given replay, all steps active, and returns the loss. Memory: the
    full gradient, one step's terms, and the graph from the last latents to the loss.
    """
    norms: dict[int, float] = {}
    dots: dict[int, float] = {}
    full: Gradient = ()

    def observe(step: int, own: Gradient) -> None:
        if full:
            dots[step] = dot(own, full)
        else:
            norms[step] = norm(own)

    loss = loss_of(Replay(parameters, on_gradient=observe))
    full = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    torch.autograd.grad(loss, parameters, allow_unused=True)
    steps, total = sorted(norms), norm(full)
    cosines = [_ratio(dots[step], norms[step] * total) for step in steps]
    return StepGradients([norms[step] for step in steps], cosines, full)


def cosine(a: Gradient, b: Gradient) -> float:
    """Cosine of two gradients as long vectors; 0 where one of them is zero."""
    return _ratio(dot(a, b), norm(a) * norm(b))


def dot(a: Gradient, b: Gradient) -> float:
    """Scalar product in float64; a parameter without gradient counts as zero."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return sum((x.double() * y.double()).sum().item() for x, y in pairs)


def norm(a: Gradient) -> float:
    """Euclidean length of a gradient as one long vector."""
    return dot(a, a) ** 0.5


def _ratio(above: float, below: float) -> float:
    return above / below if below else 0.0
