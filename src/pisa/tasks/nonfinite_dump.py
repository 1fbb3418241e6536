"""Keeps on disk the clips of a step whose reward or gradient was not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from pisa.io.files import write_atomic
from pisa.io.weights import save
from pisa.tasks.rectified_flow import BatchSlice

SCHEMA = 2


@dataclass(frozen=True)
class GeneratedClips:
    """One micro-batch of ORO, without gradient."""

    names: tuple[str, ...]
    first_frame: Float[Tensor, "b 3 h w"]
    video: Float[Tensor, "b 3 t h w"]  # in [-1, 1], not clamped
    reward: Float[Tensor, " b"]
    reward_name: str
    grad_steps: tuple[int, ...]
    seed: int
    step: int  # with the seed it fixes the noise of the global batch
    micro_batch: int
    rank: int
    rows: BatchSlice  # rows of these clips in the global batch


def dump_nonfinite(folder: Path, clips: Sequence[GeneratedClips]) -> list[Path]:
    """One folder ``step_S_rank_R_part_M`` per micro-batch: ``clips.safetensors``, ``clips.json``.

    Which clip of a batch is to blame shows in its reward; where all are finite it is the gradient
    that was not, and any of them may be. Non-finite numbers are strings in the JSON.

    Raises:
        PisaError: the folder cannot be written.
    """
    return [_save(folder, part) for part in clips]


def _save(folder: Path, clips: GeneratedClips) -> Path:
    place = folder / f"step_{clips.step:06d}_rank_{clips.rank}_part_{clips.micro_batch}"
    tensors = {"first_frame": clips.first_frame, "video": clips.video, "reward": clips.reward}
    save(place / "clips.safetensors", {k: v.cpu().contiguous() for k, v in tensors.items()})
    text = {
        "schema": SCHEMA,
        "clips": [
            {"name": name, "reward": value if math.isfinite(value) else str(value)}
            for name, value in zip(clips.names, clips.reward.tolist(), strict=True)
        ],
        "reward": clips.reward_name,
        "grad_steps": list(clips.grad_steps),
        "seed": clips.seed,
        "step": clips.step,
        "micro_batch": clips.micro_batch,
        "rank": clips.rank,
        "first_row": clips.rows.first,  # of these clips in the global batch
        "global_batch": clips.rows.total,
    }
    write_atomic(place / "clips.json", json.dumps(text, indent=1, allow_nan=False).encode())
    return place
