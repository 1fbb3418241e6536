"""AdamW as the paper's release sets it, Muon beside it, a schedule, and the gradient's guard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from pisa.errors import PisaError


def adamw(
    denoiser: nn.Module,
    lr: float,
    *,
    weight_decay: float = 0.0,
    eps: float = 1e-15,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW over the parameters of ``denoiser`` that require gradients (release: eps 1e-15, wd 0).

    Raises:
        PisaError: no parameter requires gradients.
    """
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    if not parameters:
        raise PisaError("the denoiser has no parameter that requires gradients: nothing to train")
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Newton-Schulz-orthogonalised momentum) on hidden matrices, AdamW on the rest.

    Hidden matrices are the weights of the linear layers inside the denoiser's blocks. Muon's steps
    are scaled to the root mean square of AdamW's, so that one learning rate serves both. A
    deviation: paper and release use AdamW alone.

    Raises:
        PisaError: the denoiser has no trainable linear layer inside a block.
    """

    def __init__(self, denoiser: nn.Module, lr: float, *, eps: float = 1e-15) -> None:
        hidden = {
            id(module.weight): module.weight
            for name, module in denoiser.named_modules()
            if isinstance(module, nn.Linear) and "blocks." in name and module.weight.requires_grad
        }
        if not hidden:
            raise PisaError("muon=true needs linear layers inside blocks, and there are none")
        rest = [p for p in denoiser.parameters() if p.requires_grad and id(p) not in hidden]
        self.parts = {
            "muon": torch.optim.Muon(
                hidden.values(), lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            ),
            "adamw": torch.optim.AdamW(rest, lr=lr, eps=eps, weight_decay=0.0),
        }
        super().__init__([*hidden.values(), *rest], {"lr": lr})
        # the same dictionaries, so that schedules reach both parts
        self.param_groups = [g for part in self.parts.values() for g in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self.param_groups = [g for part in self.parts.values() for g in part.param_groups]


def warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup_steps: int, decay_steps: int | None
) -> LambdaLR:
    """Linear warm-up, then constant (``decay_steps`` None) or cosine decay to 0.

    Both counts are in optimiser steps; ``decay_steps`` is counted from step 0. The paper's release
    uses neither (0, None).
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if decay_steps is None:
            return 1.0
        progress = (step - warmup_steps) / max(1, decay_steps - warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)


class GradientGuard:
    """Counts clipped and non-finite gradients; drops the latter and ends the run if they persist.

    A step with a non-finite gradient is skipped as a whole: every ``grad`` is set to None, which
    AdamW takes as "leave this parameter and its moments alone". Gradients are already reduced
    over ranks when the guard sees them, so all ranks skip together.

    Args:
        on_nonfinite: called in such a step; returns a sentence for the error that ends the run.
    """

    def __init__(
        self, max_nonfinite: int = 10, on_nonfinite: Callable[[], str] | None = None
    ) -> None:
        self.max_nonfinite = max_nonfinite
        self._on_nonfinite = on_nonfinite
        self.steps = 0
        self.clipped = 0
        self.nonfinite = 0

    def check(self, parameters: Iterable[nn.Parameter], clip_norm: float | None) -> Tensor:
        """The total gradient norm, before clipping.

        Raises:
            PisaError: more than ``max_nonfinite`` steps of this run had a non-finite gradient.
        """
        held = [p for p in parameters if p.grad is not None]
        norm = _total_norm(held)
        self.steps += 1
        self.clipped += int(clip_norm is not None and norm > clip_norm)
        if not torch.isfinite(norm):
            for parameter in held:
                parameter.grad = None
            self._count_nonfinite()
        return norm

    @property
    def clipped_fraction(self) -> float:
        """Part of the steps so far whose gradient norm exceeded the clipping norm."""
        return self.clipped / max(1, self.steps)

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps, "clipped": self.clipped, "nonfinite": self.nonfinite}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps, self.clipped = state["steps"], state["clipped"]
        self.nonfinite = state["nonfinite"]

    def _count_nonfinite(self) -> None:
        self.nonfinite += 1
        note = "" if self._on_nonfinite is None else self._on_nonfinite()
        if self.nonfinite > self.max_nonfinite:
            raise PisaError(
                f"{self.nonfinite} of {self.steps} steps had a non-finite loss or gradient "
                f"(allowed: {self.max_nonfinite}); lower the learning rate or look at the reward"
                + (f". {note}" if note else "")
            )


def _total_norm(parameters: list[nn.Parameter]) -> Tensor:
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
