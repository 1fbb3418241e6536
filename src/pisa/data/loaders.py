"""The clips of a folder and their loaders; batch ``k`` depends only on the seed and ``k``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from pisa.data.clip_io import read_clip
from pisa.data.manifest import is_complete, list_clips
from pisa.errors import PisaError
from pisa.io.lightning_internals import batches_done
from pisa.ops.video import from_uint8, to_uint8
from pisa.types import Clip, collate

PrepareHook = Callable[[Path, str], None]


class ClipDataset(Dataset[Clip]):
    """Clips of ``folder`` (see ``list_clips``), read as ``read_clip`` does.

    With ``cache`` each clip is read from disk once per process and kept as uint8, bool and float16
    (depth loses nothing, it is float16 on disk; flow is rounded to 1/64 px below 32 px, with or
    without the cache). With ``horizontal_flip`` there are twice as many items: item ``n + i``
    mirrors item ``i``. ``num_clips`` keeps the first so many.
    """

    def __init__(
        self,
        folder: Path | str,
        num_frames: int | None = None,
        frame_stride: int = 1,
        depth: bool = False,
        flow: bool = False,
        cache: bool = True,
        horizontal_flip: bool = False,
        num_clips: int | None = None,
        fps_hz: float | None = None,
        size: tuple[int, int] | None = None,
        allow_short: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.paths = list_clips(self.folder)[:num_clips]
        self.num_frames, self.frame_stride, self.fps_hz = num_frames, frame_stride, fps_hz
        self.depth, self.flow, self.size, self.allow_short = depth, flow, size, allow_short
        self.horizontal_flip = horizontal_flip
        self._cache: dict[int, Clip] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.paths) * (2 if self.horizontal_flip else 1)

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        mirrored, which = divmod(index, len(self.paths))
        packed = self._packed(which)
        return _unpack(flip_horizontally(packed) if mirrored else packed)  # bytes flip faster

    def _packed(self, which: int) -> Clip:
        if self._cache is not None and which in self._cache:
            return self._cache[which]
        clip = read_clip(
            self.paths[which],
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            fps_hz=self.fps_hz,
            size=self.size,
            allow_short=self.allow_short,
            flow=self.flow,
            depth=self.depth,
        )
        packed = _pack(clip)
        if self._cache is not None:
            self._cache[which] = packed
        return packed


def flip_horizontally(clip: Clip) -> Clip:
    """The mirror image; flow changes the sign of dx. Camera, poses and points are dropped."""
    flow = clip.flow_px
    if flow is not None:
        flow = flow.flip(-1) * flow.new_tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    return replace(
        clip,
        video=clip.video.flip(-1),
        masks=clip.masks.flip(-1),
        depth_m=None if clip.depth_m is None else clip.depth_m.flip(-1),
        flow_px=flow,
        camera=None,
        poses=None,
        points=None,
    )


def _pack(clip: Clip) -> Clip:
    return replace(
        clip,
        video=to_uint8(clip.video),
        depth_m=None if clip.depth_m is None else clip.depth_m.to(torch.float16),
        flow_px=None if clip.flow_px is None else clip.flow_px.to(torch.float16),
    )


def _unpack(packed: Clip) -> Clip:
    return replace(
        packed,
        video=from_uint8(packed.video),
        masks=packed.masks.clone(),
        depth_m=None if packed.depth_m is None else packed.depth_m.float(),
        flow_px=None if packed.flow_px is None else packed.flow_px.float(),
    )


def train_loader(
    dataset: ClipDataset, batch_size: int, num_workers: int, seed: int, trainer: Trainer | None
) -> DataLoader[Clip]:
    """An endless loader of shuffled batches that starts where the trainer stands.

    Batch ``k`` of a run depends on ``seed``, ``batch_size`` and the number of ranks only, so a run
    resumed in mid-epoch continues exactly. The trainer needs ``use_distributed_sampler=False``.
    """
    rank, world_size = _rank(trainer)
    sampler = StepSampler(
        len(dataset),
        batch_size,
        seed,
        lambda: 0 if trainer is None else batches_done(trainer),
        rank=rank,
        world_size=world_size,
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        pin_memory=_on_gpu(trainer),
    )


def eval_loader(
    dataset: ClipDataset, batch_size: int, num_workers: int, trainer: Trainer | None
) -> DataLoader[Clip]:
    """Every clip once, in order; ranks take turns and no clip is repeated to even them out."""
    rank, world_size = _rank(trainer)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(rank, len(dataset), world_size),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=_on_gpu(trainer),
    )


def prepare_data_set(root: Path, name: str, prepare: PrepareHook | None) -> None:
    """Make data set ``root/name`` with the hook unless it is complete.

    Raises ``PisaError`` where there is no hook, or the set is not complete after it.
    """
    if is_complete(root / name):
        return
    if prepare is None:
        raise PisaError(f"{root / name}: no such data set; simulate.py makes it")
    prepare(root / name, name)
    if not is_complete(root / name):
        raise PisaError(f"{root / name}: was to be made, but is not complete")


def check_kind(dataset: ClipDataset, size: tuple[int, int] | None, fps_hz: float | None) -> None:
    """Compare the first clip with what the run is configured for.

    Raises:
        PisaError: it has another resolution or frame rate.
    """
    if size is None and fps_hz is None:
        return
    clip = dataset[0]
    found = tuple(clip.video.shape[-2:])
    if size is not None and found != tuple(size):
        raise PisaError(
            f"{dataset.folder}: clips are {found[0]}x{found[1]}, but this run needs "
            f"{size[0]}x{size[1]} (data.expect_size); simulate them at that size"
        )
    if fps_hz is not None and abs(clip.fps_hz - fps_hz) > 1e-6:
        raise PisaError(
            f"{dataset.folder}: clips have {clip.fps_hz:g} frames per second, but this run needs "
            f"{fps_hz:g} (data.expect_fps_hz); set data.frame_stride or simulate them at that rate"
        )


def _rank(trainer: Trainer | None) -> tuple[int, int]:
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def _on_gpu(trainer: Trainer | None) -> bool:
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


class StepSampler(Sampler[list[int]]):
    """Batches of indices in ``[0, num_items)``, from ``start_step`` on, without end.

    The permutations of epochs 0, 1, 2 ... follow each other in one stream; global batch ``k`` of
    ``batch_size * world_size`` items is the ``k``-th piece of it, and each rank takes its own part.
    So no item comes twice in an epoch, none is dropped, and a run resumed at step ``k`` sees what
    an uninterrupted one would. ``start_step`` may be a function, asked at each ``iter``.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        start_step: int | Callable[[], int] = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_items < 1 or batch_size < 1:
            raise PisaError("training needs at least one clip and a batch size of at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in [0, {world_size})")
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.start_step, self.rank, self.world_size = start_step, rank, world_size
        self._epoch = -1
        self._order: list[int] = []

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start_step() if callable(self.start_step) else self.start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> list[int]:
        """The indices of this rank in global batch ``step``."""
        first = (step * self.world_size + self.rank) * self.batch_size
        return [self._item(place) for place in range(first, first + self.batch_size)]

    def _item(self, place: int) -> int:
        epoch, offset = divmod(place, self.num_items)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            self._order = torch.randperm(self.num_items, generator=generator).tolist()
            self._epoch = epoch
        return self._order[offset]


def _mix(seed: int, epoch: int) -> int:
    """A 63-bit seed; neighbouring (seed, epoch) pairs give unrelated permutations."""
    value = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**64
    value = ((value ^ (value >> 30)) * 0x94D049BB133111EB) % 2**64
    return (value ^ (value >> 31)) >> 1
