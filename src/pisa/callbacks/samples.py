"""Sample videos of validation clips: ground truth | generated, with the dropping object tinted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from einops import rearrange
from jaxtyping import Bool, UInt8
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray
from torch import Tensor, nn

from pisa.bench.references import VALIDATION, ModelSource, Sampling
from pisa.bench.score import track_dropping
from pisa.callbacks.pisabench import StepInterval
from pisa.ops.video import to_uint8, write_mp4
from pisa.perception.base import Tracker
from pisa.ranges import Count, Seed, WholeNumber
from pisa.tasks.base import model_of
from pisa.types import Batch

TINT = (255, 80, 40)
OPACITY = 0.35
MIN_HEIGHT = 256


class SampleVideos(pl.Callback):
    """Writes ``folder/<split>/<clip>/step_<step>.mp4`` and sends the files to W&B.

    Rank 0 writes the first ``num_clips`` clips of every validation loader. ``tracker`` draws the
    dropping object into the generated half too; without one only the true half is tinted.
    The rest: see ``PisaBench``.
    """

    def __init__(
        self,
        folder: Path | str,
        tracker: Tracker | None = None,
        splits: Sequence[str] = ("sim_seen", "sim_unseen"),
        num_clips: WholeNumber = 2,
        every_n_steps: Count | None = None,
        sampling: Sampling = VALIDATION,
        seed: Seed = 0,
    ) -> None:
        self.folder = Path(folder)
        self.tracker = tracker
        self.splits = tuple(splits)
        self.num_clips = num_clips
        self.sampling = sampling
        self.seed = seed
        self._interval = StepInterval(every_n_steps)
        self._running = False
        self._written: dict[str, int] = {}

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = not trainer.sanity_checking and self._interval.due(trainer.global_step)
        self._running = due and trainer.is_global_zero
        self._written = dict.fromkeys(self.splits, 0)
        if self._running and isinstance(self.tracker, nn.Module):
            self.tracker.to(pl_module.device).eval()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._running or dataloader_idx >= len(self.splits):
            return
        split = self.splits[dataloader_idx]
        count = min(self.num_clips - self._written[split], len(batch))
        if count <= 0:
            return
        self._written[split] += count
        source = ModelSource(model_of(pl_module), self.sampling)
        first = self._written[split] - count
        paths = self._write(batch.clips(slice(count)), source, split, trainer.global_step)
        for number, path in enumerate(paths, first):
            _send(trainer, f"samples/{split}/{number}", path)

    def _write(self, batch: Batch, source: ModelSource, split: str, step: int) -> list[Path]:
        generated = source(batch, self.seed)
        tracked = None if self.tracker is None else track_dropping(generated, batch, self.tracker)
        paths = []
        for i, name in enumerate(batch.names):
            mask = None if tracked is None else tracked[i]
            frames = side_by_side(
                tint(to_uint8(batch.video[i]), batch.masks[i, -1]),
                tint(to_uint8(generated[i]), mask),
            )
            paths.append(self.folder / split / name / f"step_{step:06d}.mp4")
            write_mp4(paths[-1], frames, batch.fps_hz)
        return paths


def tint(video: UInt8[Tensor, "3 t h w"], mask: Bool[Tensor, "t h w"] | None) -> NDArray[np.uint8]:
    """Frames ``[T, H, W, 3]`` with the masked pixels mixed with the tint colour."""
    frames = rearrange(video, "c t h w -> t h w c").cpu().numpy().copy()
    if mask is None:
        return frames
    inside = mask.cpu().numpy()
    mixed = (1 - OPACITY) * frames[inside] + OPACITY * np.array(TINT)
    frames[inside] = mixed.round().astype(np.uint8)
    return frames


def side_by_side(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Both clips in one frame with a white line between, small ones enlarged by whole factors."""
    line = np.full((*left.shape[:2], 2, 3), 255, np.uint8)
    joined = np.concatenate([left, line, right], axis=2)
    factor = max(1, MIN_HEIGHT // joined.shape[1])
    return joined.repeat(factor, axis=1).repeat(factor, axis=2)


def _send(trainer: pl.Trainer, key: str, path: Path) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            caption = f"{path.parent.name}: truth | generated"
            logger.log_video(
                key, [str(path)], trainer.global_step, format=["mp4"], caption=[caption]
            )
