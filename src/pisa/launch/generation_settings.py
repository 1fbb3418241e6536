"""Generation settings on PisaBench: the paper's Table 4, and the prompts of Appendix H.2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pisa.errors import PisaError
from pisa.ranges import Count, FrameCount, NonNegative, PixelCount, Positive, Seed

LAWS_OF_PHYSICS = "A video that conforms to the laws of physics."


@dataclass(frozen=True)
class GenerationSettings:
    """One row of Table 4; None where the paper has no such information (closed models).

    ``num_frames`` are generated and the first ``keep_frames`` kept (None: all). ``scheduler`` is
    for the record: the model's weights bring theirs.
    """

    name: str  # of the model's row in the table
    height: PixelCount
    width: PixelCount
    num_frames: FrameCount
    fps_hz: Positive
    guidance: NonNegative | None = None
    num_steps: Count | None = None
    scheduler: str | None = None
    keep_frames: FrameCount | None = None
    prompt_suffix: str = LAWS_OF_PHYSICS
    negative_prompt: str | None = None
    seeds: tuple[Seed, ...] = (0,)
    batch_size: Count = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise PisaError(f"generation.seeds must be different whole numbers, not {self.seeds}")
        if self.batch_size < 1 or self.num_frames < 2 or not self.fps_hz > 0:
            raise PisaError("generation: batch_size, num_frames and fps_hz must be positive")

    def prompt(self, caption: str) -> str:
        """The caption and the sentence after it (paper Appendix H.2)."""
        return f"{caption} {self.prompt_suffix}".strip()

    def sha256(self, model: Mapping[str, Any]) -> str:
        """Digest of all that decides a video but clip and seed; ``model``: its configuration."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("seeds", "batch_size")}
        text = json.dumps({"settings": kept, "model": dict(model)}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def required(settings: GenerationSettings | None) -> GenerationSettings:
    """Raises ``PisaError`` where the model has none."""
    if settings is None:
        raise PisaError(
            "this model has no generation settings; generation=NAME takes some "
            "(docs/guide/models.md)"
        )
    return settings
