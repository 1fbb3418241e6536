"""Clean latents of training clips, encoded once per clip if a cache is requested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pisa.errors import check_choice
from pisa.io.files import write_atomic
from pisa.models.base import VideoModel
from pisa.ops.seeding import default_generator_of
from pisa.ops.video import to_uint8
from pisa.types import Batch, Condition

FirstFrame = Literal["clip", "alone"]
STORE_FORMAT = "1"


class LatentEncoder:
    """Encodes batches without gradient.

    ``first_frame`` chooses the conditioning latent: "clip" takes latent 0 of the encoded clip (the
    release's PSFT), "alone" encodes frame 0 on its own (as ORO and inference do).
    ``cache`` keeps latents in memory (on the CPU) by clip name and first frame, so a mirrored clip
    of the same name has its own. ``folder`` keeps them on disk, see ``LatentStore``.

    A codec that samples its posterior (``model.sample_posterior``) draws again for every use, from
    the stream given to the call. With a cache it draws once per clip (a deviation: the release
    draws each time). Cached clips are encoded one by one, so that a latent never depends on
    the batch it was met in and a resumed run finds the same bits.
    """

    def __init__(
        self,
        model: VideoModel,
        first_frame: FirstFrame,
        cache: bool,
        folder: Path | str | None = None,
    ) -> None:
        check_choice("first_frame", first_frame, get_args(FirstFrame))
        self._model = model
        self._alone = first_frame == "alone"
        self._sampled = model.sample_posterior
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

    @torch.no_grad()
    def keep(self, name: str, video: Float[Tensor, "3 t h w"]) -> bool:
        """Encode a clip into the folder; False where its latent is there."""
        return self._fetched(_key(name, video), video)[1]

    def _kept(self, key: str, video: Float[Tensor, "3 t h w"]) -> Float[Tensor, "c f i j"]:
        """From the disk, or encoded and written to it."""
        return self._fetched(key, video)[0]

    def _fetched(
        self, key: str, video: Float[Tensor, "3 t h w"]
    ) -> tuple[Float[Tensor, "c f i j"], bool]:
        """The latent, and whether it had to be encoded."""
        assert self._folder is not None
        if self._store is None:
            first = "alone" if self._alone else "clip"
            self._store = LatentStore(self._folder, f"{self._model.codec_fingerprint()} {first}")
        if key not in self._content_keys:  # the hash of a whole clip takes milliseconds
            self._content_keys[key] = self._store.key(video)
        content = self._content_keys[key]
        latent = self._store.get(content)
        if latent is not None:
            return latent, False
        latent = self._drawn(video, content)[0].cpu()
        self._store.put(content, latent)
        return latent, True

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


class CaptionEncoder:
    """Text conditions of a batch; one constant caption is encoded once per device."""

    def __init__(self, model: VideoModel, caption: str | None) -> None:
        self._model = model
        self._caption = caption
        self._constant: Condition | None = None

    @torch.no_grad()
    def prepare(self) -> None:
        """Embed the constant caption now if the model keeps embeddings on disk.

        Its text encoder is then loaded by one process and dropped again; the others, and later
        runs, read the file.
        """
        if self._caption is not None:
            self._model.prepare_captions([self._caption])

    @torch.no_grad()
    def __call__(self, captions: Sequence[str], device: torch.device) -> Condition:
        if self._caption is None:
            return self._model.encode_captions(list(captions))
        if self._constant is None or self._constant.embedding.device != device:
            self._constant = self._model.encode_captions([self._caption])
        return Condition(
            repeat(self._constant.embedding, "1 l d -> b l d", b=len(captions)),
            repeat(self._constant.mask, "1 l -> b l", b=len(captions)),
        )


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


class LatentStore:
    """Files ``folder/ab/abcd....safetensors``, one latent each, named after what it is made from.

    The name is a hash of the clip's 8-bit frames and of ``codec``. A file appears whole or not at
    all, and ranks that make the same latent at once write the same bytes, so there are no locks.
    What cannot be read, or whose checksum is wrong, counts as absent and is written again.
    """

    def __init__(self, folder: Path | str, codec: str) -> None:
        self.folder = Path(folder)
        self.codec = codec

    def key(self, video: Float[Tensor, "3 t h w"]) -> str:
        """The name of this clip's latent."""
        frames = to_uint8(video).cpu().contiguous()
        digest = hashlib.sha256(f"{STORE_FORMAT} {self.codec} {tuple(frames.shape)}".encode())
        digest.update(frames.numpy().tobytes())
        return digest.hexdigest()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Float[Tensor, "c f i j"] | None:
        """The latent, on the CPU; None where it is absent or damaged."""
        try:
            with safe_open(self.path(key), framework="pt") as file:
                latent = file.get_tensor("latent")
                intact = (file.metadata() or {}).get("sha256") == _checksum(latent)
        except (OSError, SafetensorError):
            return None
        return latent if intact else None

    def put(self, key: str, latent: Float[Tensor, "c f i j"]) -> None:
        """Write one latent.

        Raises:
            PisaError: it cannot be written (disk full, read-only).
        """
        path = self.path(key)
        whole = latent.detach().cpu().contiguous()
        content = save({"latent": whole}, {"sha256": _checksum(whole)})
        write_atomic(path, content)


def _checksum(latent: Tensor) -> str:
    header = f"{latent.dtype} {tuple(latent.shape)}".encode()
    return hashlib.sha256(header + latent.view(torch.uint8).numpy().tobytes()).hexdigest()
