"""Teachers simple enough to check rewards by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ColourTracker(nn.Module):
    """Red pixels inside the columns of the first mask: logits rise with the first channel."""

    def __init__(self, gain: float = 20.0) -> None:
        super().__init__()
        self.gain = gain

    def segment(self, video: Tensor, first_masks: Tensor, tracked: slice = slice(None)) -> Tensor:
        first_masks = first_masks[:, tracked]
        columns = first_masks.any(dim=2)[:, :, None, None, :]
        logits = (self.gain * video[:, :1]).expand(-1, first_masks.shape[1], -1, -1, -1)
        return torch.where(columns, logits, -20.0)


class DifferenceFlow(nn.Module):
    def flow(self, video: Tensor) -> Tensor:
        return 2 * video[:, :2].diff(dim=2)


class GreenDepth(nn.Module):
    def depth(self, video: Tensor) -> Tensor:
        return 3 + video[:, 1] + 0.5 * video[:, 0].square()
