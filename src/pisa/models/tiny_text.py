"""A caption encoder without weights: every word has a fixed random embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from pisa.ranges import Count
from pisa.types import Condition


class WordHashEncoder:
    """Captions to ``[B, length, channels]`` unit-variance embeddings, one token per word.

    Stands where T5 XXL stands in Open-Sora. The same word always gets the same vector; words
    past ``length`` are cut.
    """

    def __init__(self, channels: Count = 64, length: Count = 8) -> None:
        self.channels = channels
        self.length = length

    def __call__(self, captions: Sequence[str]) -> Condition:
        embedding = torch.zeros(len(captions), self.length, self.channels)
        mask = torch.zeros(len(captions), self.length, dtype=torch.bool)
        for row, caption in enumerate(captions):
            for column, word in enumerate(caption.lower().split()[: self.length]):
                embedding[row, column] = self._word(word)
                mask[row, column] = True
        return Condition(embedding, mask)

    def _word(self, word: str) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big")
        return torch.randn(self.channels, generator=torch.Generator().manual_seed(seed))
