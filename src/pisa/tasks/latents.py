"""Clean latents of training clips, encoded once per clip where the codec is deterministic."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.models.base import VideoModel
from pisa.types import Batch

FirstFrame = Literal["clip", "alone"]


class LatentEncoder:
    """Encodes batches without gradient.

    ``first_frame`` chooses the conditioning latent: "clip" takes latent 0 of the encoded clip (the
    release's PSFT), "alone" encodes frame 0 on its own (as ORO and inference do).
    ``cache`` keeps latents in memory (on the CPU) by clip name and first frame, so a mirrored clip
    of the same name has its own. It is right only for a codec without sampling.
    """

    def __init__(self, model: VideoModel, first_frame: FirstFrame, cache: bool) -> None:
        if first_frame not in ("clip", "alone"):
            raise ValueError(f'first_frame must be "clip" or "alone", got {first_frame!r}')
        self._model = model
        self._alone = first_frame == "alone"
        self._cache: dict[str, Tensor] | None = {} if cache else None

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Float[Tensor, "b c f i j"]:
        """Latents on the device of ``batch.video``; latent frame 0 is the conditioning frame."""
        if self._cache is None:
            return self._encode(batch.video)
        keys = [_key(*clip) for clip in zip(batch.names, batch.video, strict=True)]
        missing = [i for i, key in enumerate(keys) if key not in self._cache]
        if missing:
            for i, latent in zip(missing, self._encode(batch.video[missing]).cpu(), strict=True):
                self._cache[keys[i]] = latent.clone()
        return torch.stack([self._cache[key] for key in keys]).to(batch.video.device)

    def _encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c f i j"]:
        latents = self._model.encode(video)
        if not self._alone:
            return latents
        first = self._model.encode_first_frame(video[:, :, 0])
        return torch.cat([first, latents[:, :, 1:]], dim=2)


def object_coverage(
    masks: Bool[Tensor, "b n t h w"], latent_size: tuple[int, int, int]
) -> Bool[Tensor, "b 1 f i j"]:
    """Latent positions whose receptive patch holds an object pixel.

    Time and space are divided evenly. Codecs with a causal first frame divide time slightly
    otherwise, so the borders in time are approximate.
    """
    union = masks.any(dim=1, keepdim=True).float()
    return F.adaptive_max_pool3d(union, latent_size) > 0


def _key(name: str, video: Float[Tensor, "3 t h w"]) -> str:
    pixels = video[:, 0].contiguous().float().cpu().numpy().tobytes()
    return f"{name} {hashlib.blake2b(pixels, digest_size=16).hexdigest()}"
