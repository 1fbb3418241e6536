"""Which denoising steps of ORO carry gradient. The paper uses all of them (Eq. 9).

Each class maps ``(num_steps, generator)`` to the indices (0 is the first step, at pure noise) that
are differentiated. All but ``FullGradient`` are deviations that save memory and time.
"""

from __future__ import annotations

from typing import Protocol

import torch

from pisa.diffusion.samplers import last_k, random_k


class GradientWindow(Protocol):
    """Chooses the denoising steps that carry gradient."""

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        """Ascending step indices in ``[0, num_steps)``."""
        ...


class FullGradient:
    """Every step (paper Appendix C, Eq. 9)."""

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return list(range(num_steps))


class LastSteps:
    """The last ``k`` steps (deviation: truncated back-propagation as in DRaFT-K and VADER)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return sorted(last_k(num_steps, min(self.k, num_steps)))


class FirstSteps:
    """The first ``k`` steps, those at high noise that decide the motion (deviation)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return list(range(min(self.k, num_steps)))


class SpreadSteps:
    """``k`` steps evenly over the chain, both ends among them; one is the first (deviation)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        k = min(self.k, num_steps)
        return [i * (num_steps - 1) // max(1, k - 1) for i in range(k)]


class RandomSteps:
    """``k`` steps drawn without replacement for every batch (deviation, as in AlignProp)."""

    def __init__(self, k: int) -> None:
        self.k = _positive(k)

    def __call__(self, num_steps: int, generator: torch.Generator) -> list[int]:
        return sorted(random_k(num_steps, min(self.k, num_steps), generator))


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"the number of steps with gradient must be at least 1, got {k}")
    return k
