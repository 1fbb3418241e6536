"""Training of the tiny codec on simulated frames."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from pisa.models.tiny_codec import TinyCodec
from pisa.types import Batch

SCALE_BATCHES = 12


class CodecTask(pl.LightningModule):
    """Reconstruction with object pixels and edges weighted up.

    Latents get Gaussian noise of ``latent_noise`` times their standard deviation before decoding,
    so that the decoder forgives the small errors of a sampled latent.
    """

    def __init__(
        self,
        codec: TinyCodec,
        lr: float = 2e-3,
        object_weight: float = 6.0,
        edge_weight: float = 0.05,
        latent_noise: float = 0.03,
        frames_per_clip: int = 4,
        total_steps: int = 1500,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["codec"])
        self.codec = codec

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.global_step)
        pick = torch.randperm(batch.video.shape[2], generator=generator)
        pick = pick[: self.hparams["frames_per_clip"]]
        frames = rearrange(batch.video[:, :, pick], "b c t h w -> (b t) c h w")
        objects = rearrange(batch.masks.any(dim=1)[:, pick], "b t h w -> (b t) 1 h w")
        z = self.codec.encode_frames(frames)
        noise = torch.randn(z.shape, generator=generator).to(z)
        spread = z.detach().std(dim=(0, 2, 3), keepdim=True)
        decoded = self.codec.decode_frames(z + self.hparams["latent_noise"] * spread * noise)
        loss = self._loss(decoded, frames, objects) + 1e-4 * z.square().mean()
        self.log("train/loss", loss, prog_bar=True)
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
        loader = self.trainer.train_dataloader
        assert loader is not None
        batches = [batch.video for batch, _ in zip(loader, range(SCALE_BATCHES), strict=False)]
        self.codec.fit_scale(torch.cat(batches))

    def configure_optimizers(self):
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
