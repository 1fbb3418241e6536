"""A small tracker for 64x64 clips: segments the object of a first-frame mask in later frames."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.errors import PisaError
from pisa.perception.base import (
    ALL_OBJECTS,
    FirstFrameSession,
    Prompt,
    load_teacher,
    upsample2,
)

GIVEN_LOGIT = 12.0  # |logit| of the given first frame and of objects that are not there
NUM_COLOURS = 48  # kept per first mask


class EmbeddedTracker(nn.Module):
    """A prompted U-Net over single frames, without recurrence: errors cannot drift.

    For an object and a frame it sees the frame, frame 0, the object's and all other objects' first
    masks, and distances in colour: to the object's colours and to the others' in frame 0, and to
    the same pixel of frame 0 (the camera stands still, so that is the distance to the background).
    Height and width are multiples of 8.
    """

    shipped_weights: ClassVar[str] = "embedded_segmentation.safetensors"  # in pisa/weights

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.down1 = _block(13, w)
        self.down2 = _block(w, 2 * w)
        self.down3 = _block(2 * w, 3 * w)
        self.middle = _block(3 * w, 3 * w)
        self.up3 = _block(6 * w, 2 * w)
        self.up2 = _block(4 * w, w)
        self.up1 = _block(2 * w, w)
        self.head = nn.Conv2d(w, 1, 1)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> EmbeddedTracker:
        """Frozen tracker with the weights in ``path`` (None: those shipped in the package)."""
        return load_teacher(cls(), "embedded_segmentation", path)

    def segment(
        self,
        video: Float[Tensor, "b 3 t h w"],
        first_masks: Bool[Tensor, "b n h w"],
        tracked: slice = ALL_OBJECTS,
    ) -> Float[Tensor, "b k t h w"]:
        """Mask logits; frame 0 repeats the given masks, empty masks stay empty.

        Raises ``PisaError`` for frames whose height or width is no multiple of 8.
        """
        height, width = video.shape[-2:]
        if height % 8 or width % 8:
            raise PisaError(f"the embedded tracker needs multiples of 8 px, not {width}x{height}")
        wanted = first_masks[:, tracked]
        given = torch.where(wanted, GIVEN_LOGIT, -GIVEN_LOGIT).to(video)
        present = wanted.flatten(2).any(dim=2)
        later = given[:, :, None].repeat(1, 1, video.shape[2] - 1, 1, 1).fill_(-GIVEN_LOGIT)
        if present.any() and video.shape[2] > 1:
            clip = present.nonzero()[:, 0]  # of each present object
            frames = rearrange(video, "b c t h w -> b t c h w")[clip]
            others = other_objects(first_masks)[:, tracked][present]
            found = self._frame_logits(frames[:, 1:], frames[:, 0], wanted[present], others)
            later = later.masked_scatter(present[:, :, None, None, None], found.to(later))
        return torch.cat([given[:, :, None], later], dim=2)

    def session(self, prompt: Prompt, num_frames: int) -> FirstFrameSession:
        """Begins a clip that is given in windows."""
        return FirstFrameSession(self, prompt)

    def _frame_logits(
        self,
        frames: Float[Tensor, "m u 3 h w"],
        first: Float[Tensor, "m 3 h w"],
        prompt: Bool[Tensor, "m h w"],
        others: Bool[Tensor, "m h w"],
    ) -> Float[Tensor, "m u h w"]:
        """Mask logits of one object per row in each of its frames."""
        still = (frames - first[:, None]).square().sum(dim=2, keepdim=True).add(1e-6).sqrt()
        near_object = colour_distance(frames, object_colours(first, prompt))
        near_other = colour_distance(frames, object_colours(first, others))
        alone = ~others.flatten(1).any(dim=1)
        near_other = torch.where(alone[:, None, None, None, None], 2.0, near_other)
        distances = [near_object, still, near_other, near_object - still, near_object - near_other]
        static = [first, torch.stack([prompt, others], dim=1).to(frames)]
        first, masks = (repeat(x, "m c h w -> m u c h w", u=frames.shape[1]) for x in static)
        inputs = torch.cat([frames, first, *distances, masks], dim=2)
        logits = self._unet(rearrange(inputs, "m u c h w -> (m u) c h w"))
        return rearrange(logits, "(m u) 1 h w -> m u h w", m=len(frames))

    def _unet(self, x: Float[Tensor, "v 13 h w"]) -> Float[Tensor, "v 1 h w"]:
        full = self.down1(x)
        half = self.down2(F.avg_pool2d(full, 2))
        quarter = self.down3(F.avg_pool2d(half, 2))
        eighth = self.middle(F.avg_pool2d(quarter, 2))
        quarter = self.up3(torch.cat([quarter, upsample2(eighth)], dim=1))
        half = self.up2(torch.cat([half, upsample2(quarter)], dim=1))
        return self.head(self.up1(torch.cat([full, upsample2(half)], dim=1)))


def other_objects(masks: Bool[Tensor, "b n h w"]) -> Bool[Tensor, "b n h w"]:
    """For each object, the union of all the others."""
    return (masks.sum(dim=1, keepdim=True) - masks.long()) > 0


def object_colours(
    first: Float[Tensor, "m 3 h w"], mask: Bool[Tensor, "m h w"]
) -> Float[Tensor, "m s 3"]:
    """``NUM_COLOURS`` colours of the masked pixels, evenly spaced in raster order."""
    flat = mask.flatten(1)
    count = flat.sum(dim=1, keepdim=True).clamp(min=1)
    order = flat.long().argsort(dim=1, descending=True, stable=True)
    spaced = torch.arange(NUM_COLOURS, device=mask.device) * count // NUM_COLOURS
    index = repeat(order.gather(1, spaced), "m s -> m s 3")
    return rearrange(first, "m c h w -> m (h w) c").gather(1, index)


def colour_distance(
    frames: Float[Tensor, "m u 3 h w"], colours: Float[Tensor, "m s 3"]
) -> Float[Tensor, "m u 1 h w"]:
    """Smooth minimum over the colours of each pixel's distance to them."""
    count, _, height, _ = frames.shape[1:]
    pixels = rearrange(frames, "m u c h w -> m (u h w) c")
    squared = (
        pixels.square().sum(dim=-1, keepdim=True)
        + colours.square().sum(dim=-1)[:, None]
        - 2 * pixels @ colours.mT
    )
    smallest = -0.02 * torch.logsumexp(-squared / 0.02, dim=-1)
    distance = (smallest + 0.1).clamp(min=1e-6).sqrt()
    return rearrange(distance, "m (u h w) -> m u 1 h w", u=count, h=height)


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
    )
