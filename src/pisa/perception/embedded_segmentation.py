"""A small recurrent tracker for 64x64 clips: given first-frame masks, segments the same objects."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pisa.perception.base import load_packaged
from pisa.perception.layers import UNetTrunk, per_frame

GIVEN_LOGIT = 20.0  # |logit| of the given first frame and of objects that are not there


class EmbeddedTracker(nn.Module):
    """Per object, a U-Net maps frame t and the last two soft masks to mask logits of frame t.

    Its image features (frame, change since the last and since the first frame) are shared by the
    objects. A soft colour histogram, taken inside and outside the first mask, gives each
    pixel its probability to belong to the object. Height and width are multiples of 8.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.clusters = _colour_clusters()
        self.image = nn.Sequential(
            nn.Conv2d(9, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.object = nn.Conv2d(5, width, 4, stride=2, padding=1)
        self.trunk = UNetTrunk(width)
        self.expand = nn.ConvTranspose2d(width, 8, 2, stride=2)
        self.mix = nn.Conv2d(8 + 5, 16, 3, padding=1)
        self.logits = nn.Conv2d(16, 1, 3, padding=1)
        nn.init.constant_(self.logits.bias, -3.0)  # objects are small

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> EmbeddedTracker:
        """Frozen tracker with the weights in ``path`` (None: those shipped in the package)."""
        return load_packaged(cls(), "embedded_segmentation", path)

    def segment(
        self, video: Float[Tensor, "b 3 t h w"], first_masks: Bool[Tensor, "b n h w"]
    ) -> Float[Tensor, "b n t h w"]:
        """Mask logits; frame 0 repeats the given masks, empty masks stay empty."""
        present = first_masks.flatten(2).any(dim=2)
        logits = video.new_full((*first_masks.shape[:2], *video.shape[2:]), -GIVEN_LOGIT)
        if not present.any():
            return logits
        clip = present.nonzero()[:, 0]  # of each present object
        first = first_masks[present][:, None].to(video.dtype)
        image = self._image_features(video)
        colour = self._object_colour(video, first, clip)
        before, mask = first, first
        tracked = [GIVEN_LOGIT * (2 * first - 1)]
        for t in range(1, video.shape[2]):
            step = torch.cat([mask, mask - before, first, colour[t], colour[0]], dim=1)
            tracked.append(self._step(image[t - 1][clip], step))
            before, mask = mask, tracked[-1].sigmoid()
        return logits.masked_scatter(present[:, :, None, None, None], torch.cat(tracked, dim=1))

    def _image_features(
        self, video: Float[Tensor, "b 3 t h w"]
    ) -> tuple[Float[Tensor, "b c i j"], ...]:
        """Object-independent features of each frame 1 ... T-1 at half resolution."""
        now = video[:, :, 1:]
        changes = torch.cat([now, now - video[:, :, :-1], now - video[:, :, :1]], dim=1)
        return self.image(per_frame(changes)).unflatten(0, (video.shape[0], -1)).unbind(1)

    def _object_colour(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first: Float[Tensor, "m 1 h w"],
        clip: Int[Tensor, " m"],
    ) -> tuple[Float[Tensor, "m 1 h w"], ...]:
        """Per frame, the probability by colour that a pixel is of the object (equal priors)."""
        batch, _, frames, height, _ = video.shape
        logits = rearrange(self.clusters(per_frame(video)), "(b t) k h w -> b t (h w) k", b=batch)
        code = logits.softmax(dim=-1)[clip]
        inside = _masked_mean(code[:, 0], first.flatten(1))
        outside = _masked_mean(code[:, 0], 1 - first.flatten(1))
        ratio = inside / (inside + outside + 1e-3)
        colour = torch.einsum("mtpk,mk->tmp", code, ratio)
        return colour.unflatten(-1, (1, height, -1)).unbind(0)

    def _step(
        self, shared: Float[Tensor, "m c i j"], step: Float[Tensor, "m 5 h w"]
    ) -> Float[Tensor, "m 1 h w"]:
        features = self.trunk(F.silu(shared + self.object(step)))
        fine = self.expand(F.silu(features))
        return self.logits(F.silu(self.mix(torch.cat([fine, step], dim=1))))


def _colour_clusters(
    levels: tuple[float, ...] = (-0.95, -0.6, -0.1, 0.6), width: float = 0.2
) -> nn.Conv2d:
    """Logits of soft assignment to colours, at first a grid: ``-|c - centre|^2 / (2 width^2)``.

    The term ``|c|^2`` is the same for every cluster and cancels in the softmax.
    """
    axis = torch.tensor(levels)
    centres = torch.cartesian_prod(axis, axis, axis)
    clusters = nn.Conv2d(3, len(centres), 1)
    with torch.no_grad():
        clusters.weight.copy_(centres[:, :, None, None] / width**2)
        clusters.bias.copy_(-0.5 * centres.square().sum(dim=1) / width**2)
    return clusters


def _masked_mean(
    code: Float[Tensor, "m p k"], weight: Float[Tensor, "m p"]
) -> Float[Tensor, "m k"]:
    total = torch.einsum("mpk,mp->mk", code, weight)
    return total / weight.sum(dim=1, keepdim=True).clamp(min=1)
