"""Training of the tiny codec on simulated frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pisa.io.weights import load
from pisa.models.tiny_codec import TinyCodec
from pisa.types import Batch

SCALE_BATCHES = 12


class CodecTask(pl.LightningModule):
    """Reconstruction of frames and of pairs of frames, object pixels and edges weighted up.

    The reference of a pair is any frame of its clip, so the codec sees motion both ways in time.
    On object pixels the displacement is pulled towards that of the object's centroid with
    ``flow_weight``. Latents get Gaussian noise of ``latent_noise`` times their scale before
    decoding, so that the decoder forgives the small errors of a sampled latent; those of motion get
    ``motion_noise`` where that isn't None. ``start`` names weights to train further (``codec.*``
    tensors, see ``pisa.io.weights.find``).
    """

    def __init__(
        self,
        codec: TinyCodec,
        lr: float = 2e-3,
        object_weight: float = 6.0,
        edge_weight: float = 0.05,
        flow_weight: float = 0.1,
        latent_noise: float = 0.05,
        motion_noise: float | None = None,
        frames_per_clip: int = 4,
        total_steps: int = 1500,
        start: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["codec"])
        self.codec = codec
        if start is not None:
            load(codec, start, "codec")

    def on_train_start(self) -> None:
        if self.global_step == 0 and self.hparams["start"] is None:
            clips = torch.cat([*self._sample_clips()])
            self.codec.still.fit_patches(rearrange(clips, "b c t h w -> (b t) c h w"))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.global_step)
        order = torch.randperm(batch.video.shape[2], generator=generator)
        pick, origin = order[: self.hparams["frames_per_clip"]], order[-1:]
        frames = rearrange(batch.video[:, :, pick], "b c t h w -> (b t) c h w")
        first = batch.video[:, :, origin[0]]
        union = batch.masks.any(dim=1)
        here = rearrange(union[:, pick], "b t h w -> (b t) 1 h w")
        there = repeat(union[:, origin], "b 1 h w -> (b t) 1 h w", t=len(pick))
        still_noise = self.hparams["latent_noise"]
        motion_noise = self.hparams["motion_noise"]
        motion_noise = still_noise if motion_noise is None else motion_noise
        code = self.codec.still.encode(first)
        picture = self.codec.still.decode(_noisy(code, still_noise, generator))
        z = self.codec.motion.encode(frames, first)
        held = repeat(picture.detach().float(), "b c h w -> (b t) c h w", t=len(pick))
        decoded = self.codec.motion.decode(_noisy(z, motion_noise, generator), held)
        still_loss = self._loss(picture, first, union[:, origin])
        motion_loss = self._loss(decoded, frames, here | there)
        truth, known = centroid_flow(batch.masks, pick, int(origin))
        error = F.smooth_l1_loss(self.codec.motion.flow(z)[0], truth, reduction="none")
        flow_loss = (error.mean(dim=1) * known).sum() / known.sum().clamp(min=1)
        loss = still_loss + motion_loss + self.hparams["flow_weight"] * flow_loss
        loss = loss + 1e-4 * z.square().mean()
        parts = {"still_loss": still_loss, "motion_loss": motion_loss, "flow_loss": flow_loss}
        self.log_dict({f"train/{k}": v.detach() for k, v in parts.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _loss(
        self,
        decoded: Float[Tensor, "n 3 h w"],
        frames: Float[Tensor, "n 3 h w"],
        objects: Tensor,
    ) -> Tensor:
        near = F.max_pool2d(objects.float(), 3, stride=1, padding=1)
        weight = 1 + self.hparams["object_weight"] * near
        error = (decoded - frames).square() + 0.1 * (decoded - frames).abs()
        loss = (weight * error).mean()
        for axis in (2, 3):
            edge = (decoded.diff(dim=axis) - frames.diff(dim=axis)).abs()
            loss = (
                loss
                + self.hparams["edge_weight"]
                * (weight.narrow(axis, 1, edge.shape[axis]) * edge).mean()
            )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        decoded = self.codec.decode(self.codec.encode(batch.video)).clamp(-1, 1)
        error = (decoded - batch.video).square().mean(dim=1)
        objects = batch.masks.any(dim=1)
        self.log("val/psnr", 10 * torch.log10(4 / error.mean()), batch_size=len(batch))
        self.log(
            "val/psnr_object", 10 * torch.log10(4 / error[objects].mean()), batch_size=len(batch)
        )

    def on_train_end(self) -> None:
        """Set the latents' scale from training clips."""
        self.codec.fit_scale(torch.cat([*self._sample_clips()]))

    def _sample_clips(self) -> Iterator[Float[Tensor, "b 3 t h w"]]:
        loader = self.trainer.train_dataloader
        assert loader is not None
        return (batch.video for batch, _ in zip(loader, range(SCALE_BATCHES), strict=False))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.codec.parameters(), self.hparams["lr"], weight_decay=0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.hparams["lr"],
            total_steps=self.hparams["total_steps"],
            pct_start=0.05,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _noisy(z: Float[Tensor, "n c i j"], share: float, generator: torch.Generator) -> Tensor:
    scale = share * z.detach().float().std(dim=(0, 2, 3), keepdim=True)
    return z + scale * torch.randn(z.shape, generator=generator).to(z)


def centroid_flow(
    masks: Bool[Tensor, "b n t h w"], frames: Int[Tensor, " k"], origin: int
) -> tuple[Float[Tensor, "v 2 h w"], Float[Tensor, "v h w"]]:
    """Displacement (x, y) of each object's centroid from ``frames`` back to ``origin``, in pixels.

    Painted on the object's pixels; rows are (clip, frame). The second result is 1 on pixels of
    objects that both frames show.
    """
    height, width = masks.shape[-2:]
    y = torch.arange(height, device=masks.device).float()
    x = torch.arange(width, device=masks.device).float()
    solid = masks.float()
    area = solid.sum(dim=(-2, -1))
    centre = (
        torch.stack(
            [(solid.sum(dim=-2) * x).sum(dim=-1), (solid.sum(dim=-1) * y).sum(dim=-1)], dim=-1
        )
        / area.clamp(min=1)[..., None]
    )
    shift = centre[:, :, [origin]] - centre[:, :, frames]  # [b n k 2]
    both = ((area[:, :, frames] > 0) & (area[:, :, [origin]] > 0)).float()
    painted = solid[:, :, frames] * both[..., None, None]
    flow = (painted[:, :, :, None] * shift[..., None, None]).sum(dim=1)
    return rearrange(flow, "b k c h w -> (b k) c h w"), rearrange(
        painted.sum(dim=1).clamp(max=1), "b k h w -> (b k) h w"
    )
