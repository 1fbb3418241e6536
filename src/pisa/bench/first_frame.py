"""Whether a video continues its clip: frame 0 against the clip's, and shifts by one frame."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

# Limited-range video read as full range, or the reverse: gain 219/255 or 255/219, offset 16.
_GAIN, _OFFSET = (0.8, 1.25), 20.0
_CELLS = 32  # per side, over which pixels are averaged: compression noise is finer than that
# Chosen by benchmarks/first_frames.py on 20 tiny clips: H.264 at crf 40, other sizes and colour
# ranges and the tiny codec stay below 34; 380 pairs of other clips are all above 42.
LIMIT = 40.0  # of 255
_SHIFT_GAIN = 0.6  # a shifted clip must fit this much better


def difference(
    true: Float[Tensor, "3 h w"], video: Float[Tensor, "3 h w"], masks: Bool[Tensor, "n h w"]
) -> float:
    """How far a video's first frame is from the clip's, of 255.

    Both frames are in [-1, 1]. The mean absolute difference over the whole frame or over the worst
    object of ``masks``, whichever is larger: a swapped or mirrored scene may share its background.
    Pixels are averaged over cells of 1/32 of the frame first, and a gain of 0.8 to 1.25 and an
    offset of up to 20 (a wrong colour range) are taken out.
    """
    a, b = _cells(true), _cells(video)
    mean_a, mean_b = a.mean(), b.mean()
    variance = ((b - mean_b) ** 2).mean()
    gain = float(((a - mean_a) * (b - mean_b)).mean() / variance) if variance > 0 else 1.0
    gain = min(max(gain, _GAIN[0]), _GAIN[1])
    offset = (mean_a - gain * mean_b).clamp(-_OFFSET, _OFFSET)
    apart = (a - gain * b - offset).abs().mean(dim=0)
    worst = apart.mean()
    for mask in masks:
        weight = _pooled(mask[None].float())[0]
        if bool(weight.any()):
            worst = torch.maximum(worst, (apart * weight).sum() / weight.sum())
    return float(worst)


def shift(
    true: Float[Tensor, "3 t h w"],
    true_fps_hz: float,
    video: Float[Tensor, "3 u h w"],
    fps_hz: float,
) -> int:
    """1 where the video fits its clip much better without frame 0, -1 with it doubled, else 0.

    Only a video that otherwise follows its clip closely shows this: a copy, not a sample.
    """
    errors = {}
    for offset in (-1, 0, 1):
        frames = torch.arange(video.shape[1])
        wanted = ((frames + offset).clamp(min=0) * true_fps_hz / fps_hz).round().long()
        kept = wanted < true.shape[1]
        a, b = true[:, wanted[kept]], video[:, kept.nonzero()[:, 0]]
        errors[offset] = float(_cells_of_video(a).sub(_cells_of_video(b)).abs().mean())
    best = min(errors, key=lambda offset: (errors[offset], abs(offset)))
    return best if errors[best] < _SHIFT_GAIN * errors[0] else 0


def _cells(frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 i j"]:
    """Means over cells, 0..255."""
    return _pooled((frame.float() + 1) * 127.5)


def _cells_of_video(video: Float[Tensor, "3 t h w"]) -> Float[Tensor, "t 3 i j"]:
    return torch.stack([_cells(frame) for frame in video.unbind(1)])


def _pooled(values: Float[Tensor, "c h w"]) -> Float[Tensor, "c i j"]:
    side = max(1, min(values.shape[-2:]) // _CELLS)
    return avg_pool2d(values[None], side, ceil_mode=True, count_include_pad=False)[0]
