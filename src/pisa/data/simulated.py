"""Simulated drops: the training set with the two test sets of PisaBench, and the ambiguous sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from pisa.data.clip_info import study_of
from pisa.data.loaders import (
    ClipDataset,
    PrepareHook,
    check_kind,
    eval_loader,
    prepare_data_set,
    train_loader,
)
from pisa.data.manifest import list_clips
from pisa.data.mask_files import read_masks
from pisa.errors import PisaError
from pisa.ranges import Count, FrameCount, PixelSize, Positive, Seed, WholeNumber
from pisa.types import Clip

MAX_DIFFERENT = 0.01  # share of the object's pixels in frame 0


class SimulatedDataModule(LightningDataModule):
    """Training batches from ``root/train``; validation and test loaders [sim_seen, sim_unseen].

    ``prepare(folder, name)`` makes a data set that is not there. It is asked for the training set
    only when a fit needs it. ``depth`` and ``flow`` add simulator truth to every batch;
    ``horizontal_flip`` concerns training only. ``num_train_clips`` uses the first so many (paper:
    5000 for PSFT, 1000 for ORO), ``num_eval_clips`` likewise for each test set. Data sets whose
    first clip has not ``expect_size`` (height, width) and ``expect_fps_hz`` are refused.
    """

    splits: tuple[str, ...] = ("sim_seen", "sim_unseen")  # names of the evaluation loaders

    def __init__(
        self,
        root: Path | str,
        train: str = "train",
        sim_seen: str = "sim_seen",
        sim_unseen: str = "sim_unseen",
        batch_size: Count = 8,
        num_frames: FrameCount | None = None,
        frame_stride: Count = 1,
        num_workers: WholeNumber = 0,
        seed: Seed = 0,
        prepare: PrepareHook | None = None,
        depth: bool = False,
        flow: bool = False,
        cache: bool = True,
        horizontal_flip: bool = False,
        num_train_clips: Count | None = None,
        num_eval_clips: Count | None = None,
        expect_size: PixelSize | None = None,
        expect_fps_hz: Positive | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.train = train
        self.test_names: tuple[str, ...] = (sim_seen, sim_unseen)
        self.batch_size = batch_size
        self.num_frames, self.frame_stride = num_frames, frame_stride
        self.num_workers, self.seed, self.prepare = num_workers, seed, prepare
        self.depth, self.flow, self.cache = depth, flow, cache
        self.horizontal_flip = horizontal_flip
        self.num_train_clips, self.num_eval_clips = num_train_clips, num_eval_clips
        self.expect_size, self.expect_fps_hz = expect_size, expect_fps_hz
        self.train_set: ClipDataset | None = None
        self.test_sets: list[ClipDataset] = []

    def prepare_data(self) -> None:
        """Make what is missing (Lightning calls this on one process per node)."""
        names = [self.train] if self._fitting() else []
        for name in [*names, *self.test_names]:
            prepare_data_set(self.root, name, self.prepare)

    def setup(self, stage: str | None = None) -> None:
        if stage in (None, "fit") and self.train_set is None:
            self.train_set = self._dataset(self.train, self.num_train_clips, self.horizontal_flip)
        if not self.test_sets:
            self.test_sets = [self._dataset(n, self.num_eval_clips) for n in self.test_names]

    def train_dataloader(self) -> DataLoader[Clip]:
        assert self.train_set is not None, "call setup('fit') first"
        return train_loader(
            self.train_set, self.batch_size, self.num_workers, self.seed, self.trainer
        )

    def val_dataloader(self) -> list[DataLoader[Clip]]:
        return [
            eval_loader(test_set, self.batch_size, self.num_workers, self.trainer)
            for test_set in self.test_sets
        ]

    def test_dataloader(self) -> list[DataLoader[Clip]]:
        return self.val_dataloader()

    def _dataset(self, name: str, num_clips: int | None, flip: bool = False) -> ClipDataset:
        dataset = ClipDataset(
            self.root / name,
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            depth=self.depth,
            flow=self.flow,
            cache=self.cache,
            horizontal_flip=flip,
            num_clips=num_clips,
        )
        check_kind(dataset, self.expect_size, self.expect_fps_hz)
        return dataset

    def _fitting(self) -> bool:
        return self.trainer is None or self.trainer.state.fn in (None, TrainerFn.FITTING)


class AmbiguousDataModule(SimulatedDataModule):
    """Training batches from ``root/train`` and one test loader over ``root/test``.

    Both hold clips that share their first frame in families (five per scene in the paper, 1000
    scenes); the clip's ``drop_height_m`` tells the members apart. Sets of another kind are refused.
    ``options`` are those of ``SimulatedDataModule``. The camera is level and symmetric, so that
    mirror images (training only) follow the same distribution of drop times.
    """

    splits = ("ambiguous",)

    def __init__(
        self,
        root: Path | str,
        train: str = "ambiguous_train",
        test: str = "ambiguous_test",
        **options: Any,
    ) -> None:
        super().__init__(root, train, **options)
        self.test_names = (test,)

    def _dataset(self, name: str, num_clips: int | None, flip: bool = False) -> ClipDataset:
        check_families(self.root / name)
        return super()._dataset(name, num_clips, flip)


def check_families(folder: Path) -> None:
    """Compare the clips of the first family.

    Raises:
        PisaError: the set is of another kind, or their first masks differ.
    """
    clips = list_clips(folder)
    group = study_of(clips[0], "ambiguous")["group"]
    first = read_masks(clips[0])[0, -1]
    for clip in clips[1:]:
        if study_of(clip, "ambiguous")["group"] != group:
            return
        differing = (read_masks(clip)[0, -1] != first).sum()
        if differing > MAX_DIFFERENT * first.sum():
            raise PisaError(f"{clip}: its first frame is not that of {clips[0].name}")
