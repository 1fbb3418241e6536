"""Depth-Anything-V2 of transformers as a frozen, differentiable teacher (arXiv:2406.09414)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from pisa.errors import PisaError
from pisa.io.weights import check_pretrained
from pisa.perception.base import freeze, imagenet_normalised, per_frame

VITS = "depth-anything/Depth-Anything-V2-Small-hf"  # the paper's release takes ViT-S


class DepthAnything(nn.Module):
    """Relative inverse depth per frame.

    Frames are resized to ``input_size`` squared, bicubic (release: 518), and normalised with
    ImageNet's mean and deviation; the result is resized back to the frames' size, bilinear.

    Args:
        network: the transformers model.
        input_size: multiple of its patch size.
        frames_per_chunk: frames at a time; with more than one chunk each is computed again in the
            backward pass. None takes all at once.
    """

    def __init__(
        self, network: nn.Module, input_size: int = 518, frames_per_chunk: int | None = None
    ) -> None:
        super().__init__()
        self.network = freeze(network)
        self.input_size = input_size
        self.frames_per_chunk = frames_per_chunk

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = VITS,
        input_size: int = 518,
        frames_per_chunk: int | None = None,
    ) -> DepthAnything:
        """Weights from a local folder or, by transformers' download, from the hub.

        Raises:
            PisaError: neither is there.
        """
        try:
            network = DepthAnythingForDepthEstimation.from_pretrained(
                str(path), use_safetensors=True
            )
        except OSError as error:
            raise PisaError(
                f"Depth-Anything-V2 weights (config.json, model.safetensors) not found at {path}. "
                f"They are on the Hugging Face hub as {VITS}: fetch them on a machine with network "
                f"and pass their folder as `path`. ({str(error).splitlines()[0]})"
            ) from error
        check_pretrained(network, path)
        return cls(network, input_size, frames_per_chunk)

    @classmethod
    def random(cls, input_size: int = 518, frames_per_chunk: int | None = None) -> DepthAnything:
        """ViT-S with random weights: for the time and memory of a step."""
        network = DepthAnythingForDepthEstimation(DepthAnythingConfig())  # its default is ViT-S
        return cls(network, input_size, frames_per_chunk)

    def depth(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t h w"]:
        """Relative inverse depth; larger is nearer."""
        frames = per_frame(video)
        size = self.frames_per_chunk or len(frames)
        recompute = size < len(frames) and torch.is_grad_enabled()
        chunks = [
            checkpoint(self._frames, chunk, use_reentrant=False)
            if recompute
            else self._frames(chunk)
            for chunk in frames.split(size)
        ]
        return rearrange(torch.cat(chunks), "(b t) h w -> b t h w", b=video.shape[0])

    def _frames(self, frames: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m h w"]:
        resized = F.interpolate(frames, (self.input_size,) * 2, mode="bicubic", align_corners=False)
        depth = self.network(imagenet_normalised(resized)).predicted_depth
        back = F.interpolate(depth[:, None], frames.shape[-2:], mode="bilinear", align_corners=True)
        return back[:, 0]

    def train(self, mode: bool = True) -> DepthAnything:
        """Stays in eval mode."""
        return super().train(False)
