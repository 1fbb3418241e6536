from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from pisa.data.clip_io import write_clip
from pisa.data.manifest import Manifest, write_manifest
from pisa.data.simulated import AmbiguousDataModule, SimulatedDataModule
from pisa.errors import PisaError
from pisa.types import Batch
from tests.data.conftest import make_clip


def simulated(root: Path, **options) -> SimulatedDataModule:
    return SimulatedDataModule(root, batch_size=2, num_frames=3, seed=4, **options)


class Recorder(LightningModule):
    """Records which clips each training step and each evaluation step gets."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[str, ...]] = []
        self.evaluated: dict[int, list[str]] = {}

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.seen.append(batch.names)
        return self.layer(batch.video.mean().reshape(1)).sum()

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        self.evaluated.setdefault(dataloader_idx, []).extend(batch.names)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    root: Path, steps: int, checkpoint: Path | None = None, num_workers: int = 0, **options
) -> Recorder:
    recorder, module = Recorder(), simulated(root, num_workers=num_workers)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **options,
    )
    resume = checkpoint if checkpoint is not None and checkpoint.exists() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(recorder, datamodule=module, ckpt_path=resume, weights_only=False)
        if checkpoint is not None and resume is None:
            trainer.save_checkpoint(checkpoint)
    return recorder


def test_batches_without_a_trainer(data_root: Path) -> None:
    module = simulated(data_root, depth=True, flow=True)
    module.prepare_data()
    module.setup("fit")
    batches = list(islice(module.train_dataloader(), 7))
    names = [name for batch in batches for name in batch.names]
    assert sorted(names) == sorted(2 * [f"{i:04d}" for i in range(7)])  # two epochs of seven
    assert len(set(names[:7])) == 7
    assert batches[0].video.shape == (2, 3, 3, 16, 16)
    assert batches[0].depth_m.shape == (2, 3, 16, 16)
    assert batches[0].flow_px.shape == (2, 2, 2, 16, 16)


def test_evaluation_loaders_come_in_order(data_root: Path) -> None:
    module = simulated(data_root, num_eval_clips=2)
    module.setup("test")
    assert module.train_set is None
    assert [s.folder.name for s in module.test_sets] == list(module.splits)
    for loaders in (module.val_dataloader(), module.test_dataloader()):
        names = [[n for batch in loader for n in batch.names] for loader in loaders]
        assert names == [["0000", "0001"], ["0000", "0001"]]


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_mid_epoch_sees_what_an_uninterrupted_run_sees(
    data_root: Path, tmp_path: Path, workers: int
) -> None:
    whole = fit(data_root, 9, num_workers=workers).seen
    first = fit(data_root, 5, tmp_path / "a.ckpt", num_workers=workers).seen
    second = fit(data_root, 9, tmp_path / "a.ckpt", num_workers=workers).seen
    assert first + second == whole and len(whole) == 9


def test_lightning_epochs_do_not_restart_the_stream(data_root: Path) -> None:
    whole = fit(data_root, 6).seen
    assert fit(data_root, 6, limit_train_batches=2, max_epochs=3).seen == whole


def test_accumulated_steps_count_batches(data_root: Path, tmp_path: Path) -> None:
    whole = fit(data_root, 4, accumulate_grad_batches=2).seen
    first = fit(data_root, 2, tmp_path / "a.ckpt", accumulate_grad_batches=2).seen
    second = fit(data_root, 4, tmp_path / "a.ckpt", accumulate_grad_batches=2).seen
    assert first + second == whole
    assert len(whole) == 8


def test_ranks_share_the_evaluation(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for rank in range(2):
        monkeypatch.setattr("pisa.data.loaders._rank", lambda _, rank=rank: (rank, 2))
        module = simulated(data_root)
        module.setup("test")
        names.append([n for batch in module.test_dataloader()[0] for n in batch.names])
    assert names == [["0000", "0002"], ["0001"]]


def test_hook_makes_what_is_missing_once(
    tmp_path: Path, data_set_maker: Callable[[Path, int], Path]
) -> None:
    calls = []

    def prepare(folder: Path, name: str) -> None:
        calls.append((folder, name))
        data_set_maker(folder, 2)

    module = simulated(tmp_path, prepare=prepare)
    module.prepare_data()
    assert [name for _, name in calls] == ["train", "sim_seen", "sim_unseen"]
    assert calls[0][0] == tmp_path / "train"
    module.prepare_data()
    assert len(calls) == 3


def test_evaluation_alone_needs_no_training_set(
    tmp_path: Path, data_set_maker: Callable[[Path, int], Path]
) -> None:
    for name in ("sim_seen", "sim_unseen"):
        data_set_maker(tmp_path / name, 2)
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.validate(recorder, datamodule=simulated(tmp_path), verbose=False)
    assert recorder.evaluated == {0: ["0000", "0001"], 1: ["0000", "0001"]}


def test_missing_data_and_failing_hooks(tmp_path: Path) -> None:
    with pytest.raises(PisaError, match=r"simulate\.py"):
        simulated(tmp_path).prepare_data()
    with pytest.raises(PisaError, match="not complete"):
        simulated(tmp_path, prepare=lambda folder, name: None).prepare_data()


def ambiguous_set(folder: Path, groups: list[int], seed_of: Callable[[int], int]) -> Path:
    names = tuple(f"{i:04d}" for i in range(len(groups)))
    for i, name in enumerate(names):
        study = {"kind": "ambiguous", "group": groups[i], "member": i}
        clip = make_clip(name, seed=seed_of(i))
        clip.masks[-1, 0] = torch.roll(clip.masks[-1, 0], seed_of(i), dims=0)
        write_clip(folder / "clips" / name, clip, extra={"study": study})
    write_manifest(folder, Manifest(clips=names))
    return folder


def test_ambiguous(tmp_path: Path) -> None:
    ambiguous_set(tmp_path / "train", [0, 0, 1, 1], lambda i: i // 2)
    ambiguous_set(tmp_path / "test", [0, 0], lambda i: 0)
    module = AmbiguousDataModule(
        tmp_path,
        train="train",
        test="test",
        batch_size=2,
        num_frames=3,
        horizontal_flip=True,
        expect_size=(16, 16),
    )
    module.prepare_data()
    module.setup("fit")
    assert module.train_set is not None and len(module.train_set) == 8
    assert next(iter(module.train_dataloader())).video.shape == (2, 3, 3, 16, 16)
    (loader,) = module.test_dataloader()
    assert [n for batch in loader for n in batch.names] == ["0000", "0001"]


def test_sets_that_are_not_ambiguous_are_refused(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(PisaError, match="'ambiguous' kind"):
        AmbiguousDataModule(data_root, train="train", test="sim_seen").setup("test")
    ambiguous_set(tmp_path / "test", [0, 0], lambda i: i)
    with pytest.raises(PisaError, match="first frame"):
        AmbiguousDataModule(tmp_path, test="test").setup("test")
