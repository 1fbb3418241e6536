"""DataLoaders shared by the data modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from pisa.data.dataset import ClipDataset
from pisa.data.manifest import is_complete
from pisa.data.step_sampler import StepSampler
from pisa.types import Clip, PisaError, collate

PrepareHook = Callable[[Path, str], None]


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
        lambda: batches_done(trainer),
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


def batches_done(trainer: Trainer | None) -> int:
    """Training batches this run has processed on each rank, those before a resume included."""
    if trainer is None:
        return 0
    return trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]


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
