"""A video model, a tracker and clips small enough to train in a second of a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pisa.data.loaders import eval_loader, train_loader
from pisa.models.base import VideoModel
from pisa.types import Batch, Clip, Condition, collate

CHANNELS, STRIDE, EMBEDDING = 3, 4, 8


class ToyDenoiser(nn.Module):
    """Two 3-D convolutions over the latents with noise level and text added to the hidden state."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.enter = nn.Conv3d(CHANNELS + 1, width, (5, 3, 3), padding=(2, 1, 1))
        self.level = nn.Linear(2, width)
        self.text = nn.Linear(EMBEDDING, width)
        self.leave = nn.Conv3d(width, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, level: Tensor, text: Tensor, clean: Tensor) -> Tensor:
        hint = repeat(clean.float(), "b f -> b 1 f i j", i=x.shape[3], j=x.shape[4])
        hidden = self.enter(torch.cat([x, hint], dim=1))
        shift = self.level(torch.stack([level, level**2], dim=1)) + self.text(text)
        return self.leave(F.silu(hidden + rearrange(shift, "b c -> b c 1 1 1")))


class ToyVideoModel(VideoModel):
    """Every frame is a latent frame, pooled in space.

    The frozen codec has a parameter of its own (``colour``), so that a checkpoint can leak it.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.denoiser = ToyDenoiser(width)
        self.colour = nn.Parameter(torch.eye(CHANNELS), requires_grad=False)
        self.num_encoded = 0
        self.condition_rows: list[Tensor] = []

    def encode(self, video: Tensor) -> Tensor:
        self.num_encoded += video.shape[0]
        pooled = F.avg_pool3d(video, (1, STRIDE, STRIDE))
        return torch.einsum("dc,bcfij->bdfij", self.colour, pooled)

    def encode_first_frame(self, frame: Tensor) -> Tensor:
        return torch.einsum("dc,bcij->bdij", self.colour, F.avg_pool2d(frame, STRIDE)).unsqueeze(2)

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        colours = torch.einsum("dc,bdfij->bcfij", self.colour, latents)
        return F.interpolate(colours[:, :, :num_frames], scale_factor=(1, STRIDE, STRIDE))

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        return CHANNELS, num_frames, height // STRIDE, width // STRIDE

    def encode_captions(self, captions: Sequence[str]) -> Condition:
        lengths = torch.tensor([float(len(caption)) for caption in captions])
        return self._condition(repeat(lengths / 100, "b -> b l d", l=2, d=EMBEDDING).clone())

    def null_condition(self, batch_size: int) -> Condition:
        return self._condition(torch.zeros(batch_size, 2, EMBEDDING))

    def velocity(
        self,
        x: Tensor,
        noise_level: Tensor,
        condition: Condition,
        clean_frames: Tensor,
        *,
        fps_hz: float,
    ) -> Tensor:
        self.condition_rows.append(condition.embedding.mean(dim=(1, 2)))
        return self.denoiser(x, noise_level, condition.embedding.mean(dim=1), clean_frames)

    def noise_schedule_shift(self, num_frames: int, height: int, width: int) -> float:
        return 1.5

    def _condition(self, embedding: Tensor) -> Condition:
        embedding = embedding.to(self.colour.device)
        return Condition(embedding, torch.ones_like(embedding[..., 0], dtype=torch.bool))


class BrightTracker(nn.Module):
    """Segments what is brighter than 0 in the red channel, if the object was there at first."""

    def segment(self, video: Tensor, first_masks: Tensor, tracked: slice = slice(None)) -> Tensor:
        present = torch.where(first_masks[:, tracked].any(dim=(2, 3)), 1.0, -1.0)
        logits = torch.where(present[..., None, None, None] > 0, video[:, :1] * 10, -10.0)
        return logits


def falling_clip(index: int = 0, *, frames: int = 6, size: int = 16) -> Clip:
    """A red 4x4 square on black that falls by 2 px a frame to the floor."""
    video = torch.full((3, frames, size, size), -1.0)
    masks = torch.zeros(1, frames, size, size, dtype=torch.bool)
    left = 2 + index % (size - 6)
    for t in range(frames):
        top = min(2 * t, size - 4)
        masks[0, t, top : top + 4, left : left + 4] = True
    video[0][masks[0]] = 1.0
    return Clip(
        name=f"clip_{index}",
        video=video,
        masks=masks,
        fps_hz=16.0,
        caption="a red square falls",
        drop_height_m=0.5,
    )


def falling_batch(batch_size: int = 2, start: int = 0, *, frames: int = 6) -> Batch:
    return collate([falling_clip(start + i, frames=frames) for i in range(batch_size)])


class ToyData(pl.LightningDataModule):
    """Endless training batches as the real data modules give them; ``loaders`` for evaluation."""

    def __init__(self, num_clips: int = 10, batch_size: int = 2, loaders: int = 0) -> None:
        super().__init__()
        self.clips = [falling_clip(i) for i in range(num_clips)]
        self.batch_size, self.loaders = batch_size, loaders

    def train_dataloader(self) -> DataLoader:
        return train_loader(self.clips, self.batch_size, 0, 0, self.trainer)

    def val_dataloader(self) -> list[DataLoader]:
        return [eval_loader(self.clips[i : i + 3], 2, 0, self.trainer) for i in range(self.loaders)]

    test_dataloader = val_dataloader  # the hook of Lightning


def make_trainer(tmp_path: Path, steps: int, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """A quiet CPU trainer that logs to CSV under ``tmp_path``; validates every 5 steps."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "max_steps": steps,
        "logger": CSVLogger(tmp_path, flush_logs_every_n_steps=1),
        "log_every_n_steps": 1,
        "val_check_interval": 5,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
        "use_distributed_sampler": False,
        "callbacks": list(callbacks),
    }
    return pl.Trainer(**(defaults | options))


def toy_model(seed: int = 0, width: int = 12) -> ToyVideoModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ToyVideoModel(width)
