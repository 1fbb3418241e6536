"""Videos of a base model for clips of the benchmark, padded to its size and cut out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pisa.data.borders import pad_to, padded_window
from pisa.data.clip_info import caption_of, read_info
from pisa.data.image_files import frame_paths, read_frames
from pisa.errors import PisaError
from pisa.launch.generated_files import Wanted
from pisa.launch.generation_settings import GenerationSettings
from pisa.models.base import VideoModel
from pisa.models.generate import generate
from pisa.ops.seeding import clip_noise, default_generator_of
from pisa.ops.video import from_frames, to_frames

Frames = UInt8[np.ndarray, "t h w 3"]


class ClipGenerator:
    """Yields (sample, frames) for a batch of samples; None for a video that is not finite.

    The noise belongs to (seed, clip name). Other draws (a sampled posterior) belong to the batch.

    Raises:
        PisaError: the model cannot make that size or number of frames (before any work).
    """

    def __init__(self, model: VideoModel, settings: GenerationSettings) -> None:
        self.model, self.settings = model, settings
        if settings.num_steps is None or settings.guidance is None:
            raise PisaError("generation.num_steps and generation.guidance are needed")
        self.num_steps, self.guidance = settings.num_steps, settings.guidance
        size = settings.num_frames, settings.height, settings.width
        self.latent_shape = model.latent_shape(*size)

    def prompt(self, sample: Wanted) -> str:
        return self.settings.prompt(caption_of(read_info(sample.clip), sample.clip))

    @torch.no_grad()
    def __call__(
        self, samples: Sequence[Wanted], device: torch.device
    ) -> Iterator[tuple[Wanted, Frames | None]]:
        settings = self.settings
        firsts = [first_frame_of(sample) for sample in samples]
        padded = [pad_to(frame, settings.height, settings.width)[None] for frame in firsts]
        noise = torch.cat([clip_noise([s.clip.name], s.seed, self.latent_shape) for s in samples])
        with default_generator_of(device, "generation", *(sample.stem for sample in samples)):
            videos = generate(
                self.model,
                torch.stack([from_frames(frame)[:, 0] for frame in padded]).to(device),
                [self.prompt(sample) for sample in samples],
                num_frames=settings.num_frames,
                fps_hz=settings.fps_hz,
                num_steps=self.num_steps,
                guidance=self.guidance,
                noise=noise.to(device),
                decode_chunk=1,
            )
        for sample, first, video in zip(samples, firsts, videos, strict=True):
            yield sample, self._cut(first, video)

    def _cut(self, first: UInt8[np.ndarray, "h w 3"], video: Float[Tensor, "3 t h w"]) -> Any:
        """The picture without the borders, as 8-bit frames; None where it is not finite."""
        if not bool(video.isfinite().all()):
            return None
        aspect = first.shape[1] / first.shape[0]
        rows, columns = padded_window(aspect, self.settings.height, self.settings.width)
        kept = video[:, : self.settings.keep_frames, rows, columns]
        return to_frames(kept)


def first_frame_of(sample: Wanted) -> UInt8[np.ndarray, "h w 3"]:
    """The clip's first frame at the size it has on disk."""
    frames, _ = read_frames(frame_paths(sample.clip)[:1])
    frame: UInt8[np.ndarray, "h w 3"] = frames[0]
    return frame


def out_of_memory_hint(
    error: BaseException, model: Mapping[str, Any], batch_size: int
) -> str | None:
    """Which switch to use next, cheapest first; None where memory was not the reason."""
    text = str(error).lower()
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not (
        "out of memory" in text or "can't allocate memory" in text
    ):
        return None
    if batch_size > 1:
        return "set generation.batch_size=1"
    for switch, off, on in (
        ("vae_tiling", False, "true"),
        ("offload", "none", "model"),
        ("offload", "model", "sequential"),
    ):
        if switch in model and model[switch] == off:
            return f"set model.{switch}={on}"
    return "generate fewer or smaller frames (generation.num_frames, height, width)"
