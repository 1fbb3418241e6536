"""Parts a task uses but doesn't own: never trained, never in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from einops import repeat
from torch import nn

from pisa.models.base import VideoModel
from pisa.types import Condition

_Part = TypeVar("_Part")


class Unregistered(Generic[_Part]):
    """Holds a part outside the owner's module tree and puts it in eval mode.

    Lightning then neither saves, optimises, reduces nor switches it to train mode. It doesn't
    move it either: call ``to`` once the device is known.
    """

    def __init__(self, part: _Part) -> None:
        self.part = part
        if isinstance(part, nn.Module):
            part.eval()

    def to(self, device: torch.device) -> None:
        if isinstance(self.part, nn.Module):
            self.part.to(device)


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
        encode = getattr(self._model, "prepare_captions", None)
        if self._caption is not None and encode is not None:
            encode([self._caption])

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
