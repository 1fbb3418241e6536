"""A tracker that takes points and is quick: for tests of what is around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pisa.types import ObjectPoints


class Colour:
    """Takes points: an object is what has the colour under its newest positive point."""

    def __init__(self) -> None:
        self.lengths: list[int] = []  # of the clips

    def segment_points(self, video: Tensor, objects: Sequence[ObjectPoints]) -> Tensor:
        return self.session(objects, video.shape[1]).segment(video)

    def session(self, prompt: Sequence[ObjectPoints], num_frames: int) -> ColourSession:
        self.lengths.append(num_frames)
        return ColourSession(prompt)


class ColourSession:
    def __init__(self, objects: Sequence[ObjectPoints]) -> None:
        self.objects = objects
        self.colours: list[Tensor] = []

    def segment(self, window: Tensor) -> Tensor:
        if not self.colours:
            newest = [entry.positive[-1] for entry in self.objects]
            self.colours = [window[:, 0, round(y), round(x)] for x, y in newest]
        off = [(window - colour[:, None, None, None]).abs().amax(dim=0) for colour in self.colours]
        return 0.35 - torch.stack(off)
