"""A tracker with a disk cache of masks by content, so that an interrupted run resumes.

A file's name is the SHA-256 of the clip's pixels, the first-frame masks or points, which objects
are wanted, and the tracker (class, settings and weights). Nothing else decides a mask, so a hit is
never stale; files of another tracker or another video are simply never looked at.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.io.files import replace_file
from pisa.perception.base import ALL_OBJECTS, PointTracker, Tracker
from pisa.types import ObjectPoints

SCHEMA = b"pisa-masks-1"
LOGIT = 12.0  # masks are stored, not logits: foreground comes back as +12, background as -12
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class CachedTracker:
    """A ``Tracker`` for scoring (no gradient) over another one; logits are +-12.

    Clips of a batch are stored one by one, each whole or not at all; a damaged file counts as
    absent. ``hits`` and ``misses`` count clips. Raises ``PisaError`` where the folder is not
    writable.
    """

    def __init__(self, tracker: Tracker, folder: Path | str, identity: str) -> None:
        self.tracker, self.folder, self.identity = tracker, Path(folder), identity
        self.hits = self.misses = 0

    @torch.no_grad()
    def segment(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first_masks: Bool[Tensor, "b n h w"],
        tracked: slice = ALL_OBJECTS,
    ) -> Float[Tensor, "b k t h w"]:
        """Mask logits as of a ``Tracker``; see the class."""
        found = [
            self._clip(video[i : i + 1], first_masks[i : i + 1], tracked) for i in range(len(video))
        ]
        masks = torch.from_numpy(np.stack(found)).to(video.device)
        return torch.where(masks, LOGIT, -LOGIT)

    @torch.no_grad()
    def segment_points(
        self, video: Float[Tensor, "3 t h w"], objects: Sequence[ObjectPoints]
    ) -> Float[Tensor, "n t h w"]:
        """Mask logits as of a ``PointTracker``, which the tracker must be."""
        assert isinstance(self.tracker, PointTracker)
        digest = hashlib.sha256(SCHEMA + b"-points")
        digest.update(f"{self.identity} {tuple(objects)!r}".encode())
        _add_content(digest, video)
        path = self._place(digest.hexdigest())
        masks = read_masks(path)
        if masks is not None and masks.shape[1:] == video.shape[1:]:
            self.hits += 1
        else:
            self.misses += 1
            masks = (self.tracker.segment_points(video, objects) > 0).cpu().numpy()
            write_masks(path, masks)
        return torch.where(torch.from_numpy(masks).to(video.device), LOGIT, -LOGIT)

    def _clip(self, video: Tensor, first_masks: Tensor, tracked: slice) -> np.ndarray:
        path = self.path_of(video[0], first_masks[0], tracked)
        masks = read_masks(path)
        if masks is not None and masks.shape[1:] == video.shape[2:]:
            self.hits += 1
            return masks
        self.misses += 1
        masks = (self.tracker.segment(video, first_masks, tracked)[0] > 0).cpu().numpy()
        write_masks(path, masks)
        return masks

    def path_of(
        self, video: Float[Tensor, "3 t h w"], first_masks: Bool[Tensor, "n h w"], tracked: slice
    ) -> Path:
        """Where the masks of that clip are kept."""
        digest = hashlib.sha256(SCHEMA)
        digest.update(self.identity.encode())
        digest.update(repr((tracked.start, tracked.stop, tracked.step)).encode())
        for tensor in (video, first_masks):
            _add_content(digest, tensor)
        return self._place(digest.hexdigest())

    def _place(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.npz"


def tracker_identity(tracker: Tracker, settings: str = "") -> str:
    """SHA-256 of class, settings (as configured) and every weight of a tracker."""
    digest = hashlib.sha256(f"{type(tracker).__module__}.{type(tracker).__qualname__}".encode())
    digest.update(settings.encode())
    state = tracker.state_dict() if isinstance(tracker, nn.Module) else {}
    for key in sorted(state):
        digest.update(key.encode())
        _add_content(digest, state[key])
    return digest.hexdigest()


def read_masks(path: Path) -> Bool[np.ndarray, "k t h w"] | None:
    """The masks in a file of the cache; None where it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            shape = tuple(int(side) for side in stored["shape"])
            bits = np.unpackbits(stored["bits"])[: int(np.prod(shape))]
        return bits.reshape(shape).astype(bool)
    except _UNREADABLE:
        return None


def write_masks(path: Path, masks: Bool[np.ndarray, "k t h w"]) -> None:
    """Write a file of the cache in one step.

    Raises ``PisaError`` where it cannot be written.
    """
    with replace_file(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, bits=np.packbits(masks), shape=np.array(masks.shape))


def _add_content(digest: Any, tensor: Tensor) -> None:
    """Type, shape and bytes, without a copy of a tensor that may hold a long video."""
    plain = tensor.detach().cpu().contiguous()
    digest.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
