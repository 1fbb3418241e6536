"""What a model is asked for on PisaBench: the paper's Table 4, and the prompts of Appendix H.2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pisa.types import PisaError

LAWS_OF_PHYSICS = "A video that conforms to the laws of physics."


@dataclass(frozen=True)
class GenerationSettings:
    """One row of Table 4; None where the paper has no such information (closed models).

    ``num_frames`` are generated and the first ``keep_frames`` kept (None: all). ``scheduler`` is
    for the record: the model's weights bring theirs.
    """

    name: str  # of the model's row in the table
    height: int
    width: int
    num_frames: int
    fps_hz: float
    guidance: float | None = None
    num_steps: int | None = None
    scheduler: str | None = None
    keep_frames: int | None = None
    prompt_suffix: str = LAWS_OF_PHYSICS
    negative_prompt: str | None = None
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise PisaError(f"generation.seeds must be different whole numbers, not {self.seeds}")
        if self.batch_size < 1 or self.num_frames < 2 or not self.fps_hz > 0:
            raise PisaError("generation: batch_size, num_frames and fps_hz must be positive")

    def prompt(self, caption: str) -> str:
        """The caption and the sentence after it (paper Appendix H.2)."""
        return f"{caption} {self.prompt_suffix}".strip()

    def sha256(self, model: Mapping[str, Any]) -> str:
        """Of all that decides a video but clip and seed; ``model`` is the model's configuration."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("seeds", "batch_size")}
        text = json.dumps({"settings": kept, "model": dict(model)}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_settings(cfg: DictConfig) -> GenerationSettings:
    """The settings in ``cfg.generation``. Raises ``PisaError`` where there are none."""
    if cfg.get("generation") is None:
        raise PisaError(
            "this model has no generation settings; generation=NAME takes some "
            "(docs/guide/models.md)"
        )
    values: dict[str, Any] = {
        str(k): v
        for k, v in OmegaConf.to_object(cfg.generation).items()  # type: ignore[union-attr]
    }
    values["seeds"] = tuple(_whole(values.get("seeds", (0,))))
    return GenerationSettings(**values)


def _whole(seeds: Sequence[Any]) -> list[int]:
    return [int(seed) for seed in seeds]
