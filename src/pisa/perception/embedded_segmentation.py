"""The embedded tracker: segments the object of a first-frame mask in every later frame."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.perception.base import load_packaged

NUM_SAMPLES = 48  # object colours kept per prompt
GIVEN_LOGIT = 20.0  # |logit| of the given first frame and of objects that are not there
SOFTNESS = 0.02  # of the minimum over colours, in squared units of [-1, 1]


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
    )


class EmbeddedTracker(nn.Module):
    """A prompted U-Net over single frames, without recurrence: errors cannot drift.

    For an object and a frame it sees the frame, frame 0, the prompt, the masks of the other
    objects, and two distances in colour: to the nearest of the object's colours in frame 0, and to
    the same pixel of frame 0 (the camera stands still, so that is the background's distance).
    """

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
        return load_packaged(cls(), "embedded_segmentation", path)

    def segment(
        self, video: Float[Tensor, "b 3 t h w"], first_masks: Bool[Tensor, "b n h w"]
    ) -> Float[Tensor, "b n t h w"]:
        """Mask logits; frame 0 repeats the given masks, empty masks stay empty.

        Height and width are multiples of 8.
        """
        b, n = first_masks.shape[:2]
        later = rearrange(video[:, :, 1:], "b c t h w -> b t c h w")
        first = video[:, :, 0]
        logits = self.frame_logits(
            repeat(later, "b t c h w -> (b n) t c h w", n=n),
            repeat(first, "b c h w -> (b n) c h w", n=n),
            rearrange(first_masks, "b n h w -> (b n) h w"),
            rearrange(other_objects(first_masks), "b n h w -> (b n) h w"),
        )
        given = torch.where(first_masks, GIVEN_LOGIT, -GIVEN_LOGIT)[:, :, None]
        logits = rearrange(logits, "(b n) t h w -> b n t h w", b=b)
        empty = ~first_masks.flatten(2).any(dim=2)
        logits = torch.where(empty[:, :, None, None, None], -GIVEN_LOGIT, logits)
        return torch.cat([given.to(logits), logits], dim=2)

    def frame_logits(
        self,
        frames: Float[Tensor, "m t 3 h w"],
        first: Float[Tensor, "m 3 h w"],
        prompt: Bool[Tensor, "m h w"],
        others: Bool[Tensor, "m h w"],
    ) -> Float[Tensor, "m t h w"]:
        """Mask logits of one object per row in each of its frames."""
        m, t = frames.shape[:2]
        near_object = colour_distance(frames, object_colours(first, prompt))
        still = (frames - first[:, None]).square().sum(dim=2, keepdim=True).add(1e-6).sqrt()
        near_other = colour_distance(frames, object_colours(first, others))
        none = ~others.flatten(1).any(dim=1)
        near_other = torch.where(none[:, None, None, None, None], 2.0, near_other)
        static = torch.stack([prompt, others], dim=1).to(frames)
        x = torch.cat(
            [
                frames,
                repeat(first, "m c h w -> m t c h w", t=t),
                near_object,
                still,
                near_other,
                near_object - still,
                near_object - near_other,
                repeat(static, "m c h w -> m t c h w", t=t),
            ],
            dim=2,
        )
        logits = self._unet(rearrange(x, "m t c h w -> (m t) c h w"))
        return rearrange(logits, "(m t) 1 h w -> m t h w", m=m)

    def _unet(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.avg_pool2d(a, 2))
        c = self.down3(F.avg_pool2d(b, 2))
        d = self.middle(F.avg_pool2d(c, 2))
        c = self.up3(torch.cat([c, _double(d)], dim=1))
        b = self.up2(torch.cat([b, _double(c)], dim=1))
        return self.head(self.up1(torch.cat([a, _double(b)], dim=1)))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def other_objects(masks: Bool[Tensor, "b n h w"]) -> Bool[Tensor, "b n h w"]:
    """For each object, the union of all the others."""
    count = masks.sum(dim=1, keepdim=True)
    return (count - masks.to(count.dtype)) > 0


def object_colours(
    first: Float[Tensor, "m 3 h w"], mask: Bool[Tensor, "m h w"]
) -> Float[Tensor, "m s 3"]:
    """``NUM_SAMPLES`` colours of the masked pixels, evenly spaced in raster order."""
    flat = mask.flatten(1)
    count = flat.sum(dim=1, keepdim=True).clamp(min=1)
    order = flat.to(torch.int64).argsort(dim=1, descending=True, stable=True)
    step = torch.arange(NUM_SAMPLES, device=mask.device)
    index = order.gather(1, (step * count) // NUM_SAMPLES)
    return first.flatten(2).transpose(1, 2).gather(1, index[..., None].expand(-1, -1, 3))


def colour_distance(
    frames: Float[Tensor, "m t 3 h w"], colours: Float[Tensor, "m s 3"]
) -> Float[Tensor, "m t 1 h w"]:
    """Smooth minimum over the colours of the distance of every pixel to them."""
    m, t, _, h, w = frames.shape
    pixels = rearrange(frames, "m t c h w -> m (t h w) c")
    squared = (
        pixels.square().sum(-1, keepdim=True)
        + colours.square().sum(-1)[:, None]
        - 2 * pixels @ colours.transpose(1, 2)
    )
    smallest = -SOFTNESS * torch.logsumexp(-squared / SOFTNESS, dim=-1)
    distance = (smallest + 0.1).clamp(min=1e-6).sqrt()
    return rearrange(distance, "m (t h w) -> m t 1 h w", t=t, h=h)
