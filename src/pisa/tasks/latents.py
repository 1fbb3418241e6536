"""Clean latents of training clips, encoded once per clip where a cache is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pisa.models.base import VideoModel
from pisa.ops.seeding import default_generator_of
from pisa.tasks.latent_store import LatentStore, latent_store
from pisa.types import Batch

FirstFrame = Literal["clip", "alone"]


class LatentEncoder:
    """Encodes batches without gradient.

    ``first_frame`` chooses the conditioning latent: "clip" takes latent 0 of the encoded clip (the
    release's PSFT), "alone" encodes frame 0 on its own (as ORO and inference do).
    ``cache`` keeps latents in memory (on the CPU) by clip name and first frame, so a mirrored clip
    of the same name has its own. ``folder`` keeps them on disk, see ``LatentStore``.

    A codec that samples its posterior (``model.sample_posterior``) draws anew for every use, from
    the stream given to the call. With a cache it draws once per clip (a deviation: the release
    draws anew each time). Cached clips are encoded one by one, so that a latent never depends on
    the batch it was met in and a resumed run finds the same bits.
    """

    def __init__(
        self,
        model: VideoModel,
        first_frame: FirstFrame,
        cache: bool,
        folder: Path | str | None = None,
    ) -> None:
        if first_frame not in ("clip", "alone"):
            raise ValueError(f'first_frame must be "clip" or "alone", got {first_frame!r}')
        self._model = model
        self._alone = first_frame == "alone"
        self._sampled = bool(getattr(model, "sample_posterior", False))
        self._cache: dict[str, Tensor] | None = {} if cache else None
        self._folder = folder
        self._store: LatentStore | None = None
        self._content_keys: dict[str, str] = {}

    @torch.no_grad()
    def __call__(
        self, batch: Batch, stream: Sequence[int | str] = ("latents",), first_row: int = 0
    ) -> Float[Tensor, "b c f i j"]:
        """Latents on the device of ``batch.video``; latent frame 0 is the conditioning frame.

        Posterior samples of clip ``i`` come from the random stream ``(*stream, first_row + i)``.
        """
        if self._cache is not None or self._folder is not None:
            clips = zip(batch.names, batch.video, strict=True)
            return torch.stack([self._cached(name, video) for name, video in clips]).to(
                batch.video.device
            )
        if not self._sampled:
            return self._encode(batch.video)
        rows = enumerate(batch.video, start=first_row)
        return torch.cat([self._drawn(video, *stream, row) for row, video in rows])

    @torch.no_grad()
    def first(
        self, frames: Float[Tensor, "b 3 h w"], streams: Sequence[Sequence[int | str]]
    ) -> Float[Tensor, "b c 1 i j"]:
        """First frames encoded alone; posterior samples of clip ``i`` come from ``streams[i]``."""
        if not self._sampled:
            return self._model.encode_first_frame(frames)
        latents = []
        for frame, stream in zip(frames, streams, strict=True):
            with default_generator_of(frame.device, "posterior of the first frame", *stream):
                latents.append(self._model.encode_first_frame(frame[None]))
        return torch.cat(latents)

    def _cached(self, name: str, video: Float[Tensor, "3 t h w"]) -> Float[Tensor, "c f i j"]:
        key = _key(name, video)
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        latent = (
            self._drawn(video, key)[0].cpu() if self._folder is None else self._kept(key, video)
        )
        if self._cache is not None:
            self._cache[key] = latent
        return latent

    def _kept(self, key: str, video: Float[Tensor, "3 t h w"]) -> Float[Tensor, "c f i j"]:
        """From the disk, or encoded and written to it."""
        assert self._folder is not None
        if self._store is None:
            first = "alone" if self._alone else "clip"
            self._store = latent_store(self._folder, self._model, first)
        if key not in self._content_keys:  # the hash of a whole clip takes milliseconds
            self._content_keys[key] = self._store.key(video)
        content = self._content_keys[key]
        latent = self._store.get(content)
        if latent is None:
            latent = self._drawn(video, content)[0].cpu()
            self._store.put(content, latent)
        return latent

    def _drawn(
        self, video: Float[Tensor, "3 t h w"], *stream: int | str
    ) -> Float[Tensor, "1 c f i j"]:
        if not self._sampled:
            return self._encode(video[None])
        with default_generator_of(video.device, "posterior", *stream):
            return self._encode(video[None])

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
