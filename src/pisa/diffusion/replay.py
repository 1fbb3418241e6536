"""Replay: back-propagate through a chain from the cached inputs of its steps, one at a time.

For ``x_{k+1} = f_k(x_k, w)`` and a loss L of the last x, let ``a_k = dL/dx_k``. The chain rule is

    ``a_k = a_{k+1} df_k/dx``   and   ``dL/dw = sum_k a_{k+1} df_k/dw``.

The chain runs without gradient and keeps only the x_k. Backward walks it in reverse: it computes
step k again from x_k, takes both products, and drops the step's graph. With every step active that
is the exact gradient, at the memory of one step plus one x per step. Only the ``active`` steps
contribute ``df_k/dw``; ``other_steps`` says what a step that is not active does to ``a``:

* ``constant``: it adds a constant, ``a_k = a_{k+1}``. It is not computed again, and the sum is what
  a chain whose other velocities are constants gives. Cheap, and biased: the active steps see the
  loss as if the rest of the chain would not react.
* ``frozen``: its weights are constants, ``a_k = a_{k+1} df_k/dx``. Each active step then gives
  exactly its term of the full gradient; steps before the first active one cost nothing.

To autograd the chain is one node with ``x`` and the parameters as inputs, so that ``backward``,
``autograd.grad``, gradient accumulation and the hooks of DDP work as usual: each parameter gets one
gradient per backward. Sharded parameters (FSDP) are refused, since a step would gather other
tensors than those the node knows; per-step checkpointing has the same memory and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import get_device_states, set_device_states

from pisa.errors import check_choice

Step = Callable[[Tensor], Tensor]
OtherSteps = Literal["constant", "frozen"]


@dataclass(frozen=True)
class Replay:
    """How to replay.

    Args:
        parameters: leaves that get gradient, besides the start of the chain. Nothing else does:
            what the steps derive from a parameter they must derive themselves.
        other_steps: see the module.
        on_gradient: called in backward with (step, its gradient of each parameter), for active
            steps from the last to the first.
        equal_norm: sum the active steps' contributions g_k after scaling them to one norm, the
            mean of theirs: ``mean_k |g_k| * sum_k g_k / |g_k|``. Without it late steps dominate.
    """

    parameters: Sequence[Tensor]
    other_steps: OtherSteps = "constant"
    on_gradient: Callable[[int, Sequence[Tensor | None]], None] | None = None
    equal_norm: bool = False

    def __post_init__(self) -> None:
        check_choice("other_steps", self.other_steps, get_args(OtherSteps))
        if any(isinstance(parameter, DTensor) for parameter in self.parameters):
            raise ValueError(
                "replay cannot be used with sharded parameters; checkpoint the steps instead"
            )


def replay_chain(
    steps: Sequence[Step],
    x: Tensor,
    active: Collection[int],
    replay: Replay,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """``steps[-1](... steps[0](x))``; ``on_step`` is called with (step, x) in the forward pass."""
    parameters = [p for p in replay.parameters if p.requires_grad]
    plan = _Plan(steps, frozenset(active), replay, on_step)
    end: Tensor = _Chain.apply(plan, x, *parameters)
    return end


@dataclass(frozen=True)
class _Plan:
    steps: Sequence[Step]
    active: frozenset[int]
    replay: Replay
    on_step: Callable[[int, Tensor], None] | None

    def replayed(self, start_needs_grad: bool) -> list[int]:
        """Steps that backward computes again."""
        if self.replay.other_steps == "constant" or not (self.active or start_needs_grad):
            return sorted(self.active)
        first = 0 if start_needs_grad else min(self.active)
        return list(range(first, len(self.steps)))


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, *parameters: Tensor) -> Tensor:
        replayed = plan.replayed(ctx.needs_input_grad[1]) if any(ctx.needs_input_grad) else []
        inputs, randomness = [], []
        for index, step in enumerate(plan.steps):
            if index in replayed:
                inputs.append(x)
                randomness.append(_RandomState(x))
            x = step(x)
            if plan.on_step is not None:
                plan.on_step(index, x)
        torch.clear_autocast_cache()  # of weights cast without gradient
        ctx.plan, ctx.replayed, ctx.randomness = plan, replayed, randomness
        ctx.autocast = _present_autocast(x.device.type)
        ctx.save_for_backward(*inputs, *parameters)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (adjoint,) = gradients
        inputs = ctx.saved_tensors[: len(ctx.replayed)]
        parameters = ctx.saved_tensors[len(ctx.replayed) :]
        totals: list[Tensor | None] = [None] * len(parameters)
        norms: list[Tensor] = []
        plan: _Plan = ctx.plan
        for index, x, randomness in reversed(
            list(zip(ctx.replayed, inputs, ctx.randomness, strict=True))
        ):
            x = x.detach().requires_grad_()
            with torch.enable_grad(), ctx.autocast(), randomness.restored():
                y = plan.steps[index](x)
            wanted = parameters if index in plan.active else ()
            through, *own = torch.autograd.grad(y, (x, *wanted), adjoint, allow_unused=True)
            adjoint = torch.zeros_like(x) if through is None else through
            if index in plan.active:
                if plan.replay.on_gradient is not None:
                    plan.replay.on_gradient(index, own)
                if plan.replay.equal_norm:
                    norms.append(_norm(own, adjoint))
                    own = _scaled(own, 1 / norms[-1].where(norms[-1] != 0, 1.0))  # type: ignore[assignment]
                totals = [_sum(total, new) for total, new in zip(totals, own, strict=True)]
        if norms:
            totals = _scaled(totals, torch.stack(norms).mean())
        return None, adjoint, *totals


def _sum(total: Tensor | None, new: Tensor | None) -> Tensor | None:
    """Not in place: autograd may hand out one tensor as the gradient of two parameters."""
    if total is None or new is None:
        return new if total is None else total
    return total + new


def _norm(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Euclidean norm over all tensors together; 0 where there are none."""
    squares = [g.float().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else like.new_zeros(())


def _scaled(gradients: Sequence[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    return [None if g is None else g * factor.to(g.dtype) for g in gradients]


class _RandomState:
    """The random state now, for a step that draws (dropout) to draw the same again."""

    def __init__(self, x: Tensor) -> None:
        self._cpu = torch.get_rng_state()
        self._device_type = None if x.device.type == "cpu" else x.device.type
        self._devices, self._states = get_device_states(x)

    @contextmanager
    def restored(self) -> Iterator[None]:
        with torch.random.fork_rng(self._devices, device_type=self._device_type):
            torch.set_rng_state(self._cpu)
            if self._devices:
                set_device_states(self._devices, self._states, device_type=self._device_type)
            yield


def _present_autocast(device_type: str) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the autocast that is on now: backward runs outside of that of the forward pass."""
    return partial(
        torch.autocast,
        device_type,
        dtype=torch.get_autocast_dtype(device_type),
        enabled=torch.is_autocast_enabled(device_type),
    )
