"""Picture and sound of LTX-2: how both travel in one tensor of latents, and their guidance.

The transformer denoises sound beside the picture, and each attends to the other. A sampler of this
package carries one tensor, so the tokens of the sound are positions of latent frames behind those
of the picture, one token per position; what is left of the last frame is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


class Streams(NamedTuple):
    """Latents of the picture and tokens of the sound, or the velocities of both."""

    video: Float[Tensor, "b c f i j"]
    audio: Float[Tensor, "b n d"]


def join(streams: Streams, frames: int) -> Float[Tensor, "b c g i j"]:
    """One tensor of ``frames`` latent frames; unused positions are 0."""
    video, audio = streams
    rows, channels, made, height, width = video.shape
    joined = video.new_zeros(rows, frames * height * width, channels)
    joined[:, : made * height * width] = rearrange(video, "b c f i j -> b (f i j) c")
    start = made * height * width
    joined[:, start : start + audio.shape[1], : audio.shape[2]] = audio
    return rearrange(joined, "b (f i j) c -> b c f i j", f=frames, i=height, j=width)


def split(x: Float[Tensor, "b c g i j"], frames: int, tokens: int, width: int) -> Streams:
    """The first ``frames`` latent frames, and ``tokens`` tokens of ``width`` numbers after them."""
    behind = rearrange(x[:, :, frames:], "b c f i j -> b (f i j) c")
    return Streams(x[:, :, :frames], behind[:, :tokens, :width])


@dataclass(frozen=True)
class Guidance:
    """Weights of the pipeline's guidance terms, in clean latents.

    Args:
        audio: scale against the null prompt for the sound (the picture's comes with the call).
        stg: weight of spatio-temporal guidance, against blocks whose self-attention is left out.
        modality: scale against picture and sound that do not see each other; 1 turns it off.
        rescale: share of the guided prediction brought back to the deviation of the prompt's
            (arXiv:2305.08891 Section 3.4).
    """

    audio: float = 7.0
    stg: float = 1.0
    modality: float = 3.0
    rescale: float = 0.7

    def __call__(
        self,
        x: Streams,
        level: Float[Tensor, " b"],
        scale: float,
        prompt: Streams,
        null: Streams,
        stg: Streams | None,
        isolated: Streams | None,
    ) -> Streams:
        """The guided velocities of both streams."""
        scales = (scale, self.audio)
        guided = []
        for k, stream in enumerate(x):
            s = level.reshape(-1, *[1] * (stream.ndim - 1))
            clean = _clean(stream, s)
            wanted = clean(prompt[k])
            moved = wanted + (scales[k] - 1) * (wanted - clean(null[k]))
            if stg is not None:
                moved = moved + self.stg * (wanted - clean(stg[k]))
            if isolated is not None:
                moved = moved + (self.modality - 1) * (wanted - clean(isolated[k]))
            guided.append((stream - self._rescaled(moved, wanted)) / s)
        return Streams(*guided)

    def _rescaled(self, guided: Tensor, wanted: Tensor) -> Tensor:
        dims = tuple(range(1, guided.ndim))
        ratio = wanted.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
        return torch.lerp(guided, guided * ratio, self.rescale)


def _clean(x: Tensor, s: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda velocity: x - s * velocity
