"""A tiny video model without a codec: a transformer over patches of pixels that predicts x_0.

JiT (arXiv:2511.13720) shows that a plain transformer on large patches learns to denoise raw pixels
if it predicts the clean image. Here later frames are kept as differences to frame 0, so a still
background is zero, and the network may also move pixels of frame 0 to where it wants them: objects
then keep their colours and edges without having to be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pisa.models.tiny import MIN_LEVEL, find_weights, load_part
from pisa.models.tiny_codec import warp
from pisa.models.tiny_denoiser import Trunk
from pisa.models.tiny_text import WordHashEncoder
from pisa.types import Condition, PisaError

CHANNELS = 3
MAX_FLOW_PX = 48.0


class PixelDenoiser(nn.Module):
    """Predicts clean pixels from noisy ones; frame 0 is a picture, others differ from it.

    A token is a patch of ``patch`` x ``patch`` pixels of ``frames`` frames. From each the last
    layer makes, per pixel, a new colour, and with ``moves`` also a displacement back to frame 0
    (on a grid of ``flow_px`` pixels) and the shares of three pictures: frame 0 where it is, frame 0
    moved, and the new colour. A fresh network repeats frame 0.
    """

    def __init__(
        self,
        num_frames: int = 16,
        size_px: int = 64,
        patch: int = 16,
        frames: int = 1,
        moves: bool = True,
        flow_px: int = 4,
        width: int = 256,
        depth: int = 8,
        num_heads: int = 4,
        caption_channels: int = 64,
        caption_length: int = 8,
    ) -> None:
        super().__init__()
        self.patch, self.frames, self.moves, self.flow_px = patch, frames, moves, flow_px
        self.num_frames, self.size_px = num_frames, size_px
        pixels = patch**2
        self.embed = nn.Linear(CHANNELS * pixels * (frames + 1), width)
        self.trunk = Trunk(
            num_frames // frames,
            (size_px // patch) ** 2,
            width,
            depth,
            num_heads,
            caption_channels,
            caption_length,
        )
        self.colour = nn.Linear(width, frames * pixels * CHANNELS)
        self.share = nn.Linear(width, frames * pixels * 3) if moves else None
        self.flow = nn.Linear(width, frames * (patch // flow_px) ** 2 * 2) if moves else None
        nn.init.zeros_(self.colour.weight)
        nn.init.zeros_(self.colour.bias)
        if self.share is not None and self.flow is not None:
            for layer in (self.share, self.flow):
                nn.init.normal_(layer.weight, std=0.002)
                nn.init.zeros_(layer.bias)
            with torch.no_grad():  # the still picture first
                self.share.bias.view(-1, 3).copy_(torch.tensor([2.0, 0.0, 0.0]))

    @property
    def null_caption(self) -> nn.Parameter:
        return self.trunk.null_caption

    def forward(
        self,
        x: Float[Tensor, "b 3 t h w"],
        noise_level: Float[Tensor, " b"],
        caption: Float[Tensor, "b l k"],
        caption_mask: Bool[Tensor, "b l"],
        null: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b 3 t h w"]:
        """``x_0`` of clips whose frame 0 is given clean; ``noise_level`` in [0, 1].

        Rows of ``null`` take the null prompt as their caption.
        """
        return self.parts(x, noise_level, caption, caption_mask, null)[0]

    def parts(
        self, x: Tensor, noise_level: Tensor, caption: Tensor, caption_mask: Tensor, null=None
    ) -> tuple[Float[Tensor, "b 3 t h w"], Float[Tensor, "b 2 t h w"] | None]:
        """``x_0`` and the displacement back to frame 0 in pixels (None without ``moves``)."""
        length = x.shape[2]
        if x.shape[3:] != (self.size_px, self.size_px) or length != self.num_frames:
            raise PisaError(
                f"the tiny model is made for {self.num_frames} frames of {self.size_px} px, "
                f"not {length} of {x.shape[4]}x{x.shape[3]}"
            )
        first, layout = x[:, :, 0], {"p": self.patch, "q": self.patch}
        noisy = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, 1:]], dim=2)
        tokens = rearrange(
            noisy, "b c (t f) (h p) (w q) -> b t (h w) (f c p q)", f=self.frames, **layout
        )
        still = rearrange(first, "b c (h p) (w q) -> b 1 (h w) (c p q)", **layout)
        still = still.expand(-1, tokens.shape[1], -1, -1)
        tokens = self.trunk(
            self.embed(torch.cat([tokens, still], dim=-1)),
            noise_level,
            caption,
            caption_mask,
            null,
        )
        rows = {"h": self.size_px // self.patch, "f": self.frames}
        unpatch = "b t (h w) (f p q c) -> b c (t f) (h p) (w q)"
        colour = rearrange(self.colour(tokens), unpatch, **rows, **layout)
        if self.share is None or self.flow is None:
            return colour, None
        share = rearrange(self.share(tokens), unpatch, **rows, **layout)
        small = self.patch // self.flow_px
        flow = rearrange(self.flow(tokens), unpatch, **rows, p=small, q=small)
        later = rearrange(flow, "b c t h w -> (b t) c h w").float() * 8.0
        later = MAX_FLOW_PX * torch.tanh(later / MAX_FLOW_PX)
        later = F.interpolate(
            later, scale_factor=self.flow_px, mode="bilinear", align_corners=False
        )
        reference = repeat(first, "b c h w -> (b t) c h w", t=length).float()
        moved = warp(reference, later) - reference
        weights = rearrange(share, "b k t h w -> (b t) k h w").float().softmax(dim=1)
        fresh = rearrange(colour, "b c t h w -> (b t) c h w").float()
        clean = weights[:, 1:2] * moved + weights[:, 2:3] * fresh
        split = "(b t) c h w -> b c t h w"
        return rearrange(clean, split, t=length), rearrange(later, split, t=length)


class TinyPixelModel(nn.Module):
    """``VideoModel`` whose latents are pixels: frame 0, then differences to frame 0.

    ``weights`` names a safetensors file with ``denoiser.*`` tensors (see ``find_weights``); None
    leaves the network as it is drawn. ``shift`` is ``r`` of the timestep transform; pixels need
    a larger one than latents, because neighbours average the noise away.
    """

    def __init__(
        self,
        denoiser: PixelDenoiser,
        text: WordHashEncoder,
        weights: str | Path | None = None,
        shift: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.text, self.shift = denoiser, text, shift
        if weights is not None:
            load_part(self.denoiser, "denoiser", find_weights(weights))

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
        first = video[:, :, :1]
        return torch.cat([first, video[:, :, 1:] - first], dim=2)

    def encode_first_frame(self, frame: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 1 h w"]:
        return frame[:, :, None]

    def decode(
        self, latents: Float[Tensor, "b 3 t h w"], num_frames: int
    ) -> Float[Tensor, "b 3 t h w"]:
        first = latents[:, :, :1]
        return torch.cat([first, latents[:, :, 1:] + first], dim=2)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        return CHANNELS, num_frames, height, width

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        condition = self.text(captions)
        device = next(self.denoiser.parameters()).device
        return Condition(condition.embedding.to(device), condition.mask.to(device))

    def null_condition(self, batch_size: int) -> Condition:
        """Rows that the denoiser fills in with its null prompt."""
        shape, device = self.denoiser.null_caption.shape, self.denoiser.null_caption.device
        mask = torch.ones(batch_size, shape[0], dtype=torch.bool, device=device)
        return Condition(torch.zeros(batch_size, *shape, device=device), mask, mask[:, 0])

    def velocity(
        self,
        x: Float[Tensor, "b 3 t h w"],
        noise_level: Float[Tensor, " b"],
        condition: Condition,
        clean_frames: Bool[Tensor, "b t"],
        *,
        fps_hz: float,
    ) -> Float[Tensor, "b 3 t h w"]:
        clean = self.denoiser(x, noise_level, condition.embedding, condition.mask, condition.null)
        level = noise_level.clamp(min=MIN_LEVEL)
        return (x - clean) / rearrange(level, "b -> b 1 1 1 1")

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return self.shift

    def codec_fingerprint(self) -> str:
        return "pixels"
