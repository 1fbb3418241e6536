"""Generated videos on disk: ``CLIP_sSEED.mkv`` and, beside it, ``CLIP_sSEED.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pisa.errors import PisaError
from pisa.io.files import write_atomic
from pisa.io.provenance import provenance
from pisa.launch.generation_settings import GenerationSettings
from pisa.ops.video import write_lossless


@dataclass(frozen=True)
class Wanted:
    """One video to make: a clip folder of the benchmark and a seed."""

    clip: Path
    seed: int

    @property
    def stem(self) -> str:
        return f"{self.clip.name}_s{self.seed}"


class GeneratedFiles:
    """The folder of one model's videos.

    Args:
        sha256: of the settings; a folder with videos of other settings is refused.
        described: what else stands in each JSON.
    """

    def __init__(
        self,
        folder: Path,
        settings: GenerationSettings,
        sha256: str,
        described: Mapping[str, Any],
    ) -> None:
        self.folder, self.settings, self.sha256 = folder, settings, sha256
        self.described = dict(described)
        self._provenance = provenance(self.described, sha256, settings.seeds[0])

    def missing(self, samples: Sequence[Wanted]) -> list[Wanted]:
        """Samples without a finished video.

        Raises:
            PisaError: a video of other settings is in the folder.
        """
        return [sample for sample in samples if not self._is_there(sample)]

    def write(self, sample: Wanted, frames: UInt8[np.ndarray, "t h w 3"], prompt: str) -> None:
        """The video first, then the JSON, which says that the sample is finished."""
        write_lossless(self.folder / f"{sample.stem}.mkv", frames, self.settings.fps_hz)
        content = {
            "clip": sample.clip.name,
            "seed": sample.seed,
            "prompt": prompt,
            "settings_sha256": self.sha256,
            "settings": asdict(self.settings),
            **self.described,
            "provenance": self._provenance,
        }
        text = json.dumps(content, indent=1, default=str)
        write_atomic(self.folder / f"{sample.stem}.json", text.encode())

    def _is_there(self, sample: Wanted) -> bool:
        record = self.folder / f"{sample.stem}.json"
        if not record.is_file() or not (self.folder / f"{sample.stem}.mkv").is_file():
            return False
        try:
            found = json.loads(record.read_text())["settings_sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if found != self.sha256:
            raise PisaError(
                f"{self.folder} holds videos of other settings ({record.name}); "
                "choose another output_dir, or remove them"
            )
        return True
