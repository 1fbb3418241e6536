"""Equal compute: as many steps of a method as a number of forward passes pays for."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from torch import nn

from pisa.errors import PisaError
from pisa.launch.settings import Node
from pisa.launch.targets import Part, plain


class PlaceholderModel(nn.Module):
    """Replaces the video model while passes are counted; they do not depend on it."""

    sample_posterior = False

    def __init__(self) -> None:
        super().__init__()
        self.denoiser = nn.Module()


def steps_of(stage: Node, name: str, budget: int) -> int:
    """Optimiser steps of a stage whose forward passes come closest to ``budget``; at least one.

    ``stage`` is its node of the configuration.
    """
    # decay_steps may be ${oro.max_steps}, which is the number sought
    task = {key: _plain(stage["task"][key]) for key in stage["task"] if key != "decay_steps"}
    passes = passes_per_clip(Part.checked(f"{name}.task", task), stage["reward"] is not None)
    return max(1, round(budget / (passes * stage["batch_size"])))


def _plain(value: Any) -> Any:
    return plain(value) if OmegaConf.is_config(value) else value


def passes_per_clip(task: Part, rewarded: bool) -> float:
    """``DenoiserTask.passes_per_clip`` of a task, found without its model and its reward.

    Raises:
        PisaError: the task does not state it.
    """
    options: dict[str, Any] = {"model": PlaceholderModel()}
    if rewarded:
        options["reward"] = nn.Module()
    passes = getattr(task.build(**options), "passes_per_clip", None)
    if passes is None:
        raise PisaError(
            f"{task.name}: {task.target.__name__} has no passes_per_clip, so that its steps cannot "
            f"be counted; give {task.name.removesuffix('.task')}.max_steps"
        )
    return float(passes)
