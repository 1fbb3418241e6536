"""The callbacks in a short PSFT run of the toy model."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from pisa.bench.references import Sampling
from pisa.callbacks.checkpoints import ExportWeights
from pisa.callbacks.ema import EMA, averaged_weights
from pisa.callbacks.loggers import RUN_ID, WandbLogger
from pisa.callbacks.pisabench import PisaBench, StepInterval
from pisa.callbacks.samples import SampleVideos, side_by_side, tint
from pisa.callbacks.throughput import StepProgressBar, Throughput, peak_rss_bytes
from pisa.errors import PisaError
from pisa.io.progress import ProgressLog
from pisa.ops.video import read_video
from pisa.tasks.psft import PSFT
from pisa.tasks.weights import load_denoiser
from tests.tasks.toy import BrightTracker, ToyData, falling_batch, make_trainer, toy_model

SHORT = Sampling(num_steps=2, guidance=1.0)


def fit(tmp_path, steps, *callbacks, model=None, loaders=2, **options):
    trainer = make_trainer(tmp_path, steps, *callbacks, **options)
    trainer.fit(PSFT(model or toy_model(), lr=1e-2), ToyData(loaders=loaders))
    return trainer


def logged(trainer, key):
    trainer.logger.save()
    with Path(trainer.logger.log_dir, "metrics.csv").open() as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


def test_pisabench_logs_means_with_counts(tmp_path):
    bench = PisaBench(BrightTracker(), sampling=SHORT, max_clips=2)
    trainer = fit(tmp_path, 5, bench)
    values = {k: v.item() for k, v in trainer.callback_metrics.items() if "pisabench" in k}
    for split in ("sim_seen", "sim_unseen"):
        assert values[f"pisabench/{split}/n"] == 2
        assert values[f"pisabench/{split}/iou_n"] == 2
        assert 0 <= values[f"pisabench/{split}/iou"] <= 1
    assert [row.clip for row in bench.collection.rows] == ["clip_0", "clip_1", "clip_1", "clip_2"]
    assert {row.model for row in bench.collection.rows} == {"psft"}


def test_pisabench_keeps_its_interval_and_repeats_itself(tmp_path):
    every, third = [PisaBench(BrightTracker(), sampling=SHORT, max_clips=1) for _ in range(2)]
    third._interval = StepInterval(15)
    counts = []
    third.on_validation_end = lambda *_: counts.append(len(third.collection.rows))
    fit(tmp_path, 20, third)
    assert [count > 0 for count in counts] == [True, False, True, False]
    trainer = make_trainer(tmp_path, 1, every)
    task = PSFT(toy_model())
    rows = []
    for _ in range(2):
        trainer.validate(task, ToyData(loaders=2), verbose=False)
        rows.append(str(every.collection.rows))
    assert rows[0] == rows[1]


def test_step_interval():
    interval = StepInterval(10)
    assert [s for s in (3, 5, 10, 19, 27, 40) if interval.due(s)] == [3, 10, 27, 40]
    assert all(StepInterval(None).due(step) for step in (1, 1, 2))


def test_samples_are_written_as_true_beside_generated(tmp_path):
    fit(
        tmp_path,
        5,
        SampleVideos(tmp_path / "samples", BrightTracker(), num_clips=1, sampling=SHORT),
    )
    paths = sorted((tmp_path / "samples").rglob("*.mp4"))
    assert [str(p.relative_to(tmp_path / "samples")) for p in paths] == [
        "sim_seen/clip_0/step_000005.mp4",
        "sim_unseen/clip_1/step_000005.mp4",
    ]
    frames, fps_hz = read_video(paths[0])
    assert frames.shape == (6, 256, 34 * 16, 3) and fps_hz == 16


def test_tint_touches_the_mask_only_and_halves_keep_their_sides():
    batch = falling_batch(1)
    video = torch.zeros(3, 6, 16, 16, dtype=torch.uint8)
    mask = batch.masks[0, -1]
    frames = tint(video, mask)
    assert (frames[mask.numpy()] > 0).all() and (frames[~mask.numpy()] == 0).all()
    joined = side_by_side(frames, tint(video, None))
    assert joined[:, :, : 16 * 16].max() > 0 and joined[:, :, 18 * 16 :].max() == 0


def test_throughput_logs_rates_and_memory(tmp_path):
    trainer = fit(tmp_path, 6, Throughput(), log_every_n_steps=2)
    rates = logged(trainer, "throughput/clips_per_s")
    seconds = logged(trainer, "throughput/step_s")
    assert len(rates) == len(seconds) >= 2
    assert rates[0] == pytest.approx(2 / seconds[0], rel=1e-6)
    assert (
        0.05
        < logged(trainer, "memory/peak_rss_gib")[-1]
        == pytest.approx(peak_rss_bytes() / 1024**3, rel=0.05)
    )


def test_ema_is_the_recursion_and_is_swapped_in_for_validation_only(tmp_path):
    seen, live = [], []

    class Watch(EMA):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            super().on_train_batch_end(trainer, pl_module, *rest)
            live.append(pl_module.denoiser.enter.bias.detach().clone())

        def on_validation_batch_end(self, trainer, pl_module, *rest):
            seen.append(pl_module.denoiser.enter.bias.detach().clone())

    model = toy_model()
    average = model.denoiser.enter.bias.detach().clone()
    trainer = fit(tmp_path, 5, Watch(0.8), model=model, loaders=1)
    for weights in live:
        average = 0.8 * average + 0.2 * weights
    torch.testing.assert_close(seen[0], average)
    assert torch.equal(model.denoiser.enter.bias, live[-1])
    with averaged_weights(trainer):
        torch.testing.assert_close(model.denoiser.enter.bias.detach(), average)
    assert torch.equal(model.denoiser.enter.bias, live[-1])


def test_ema_gives_the_weights_back_when_validation_fails(tmp_path):
    class Breaks(PisaBench):
        def on_validation_batch_end(self, *args, **kwargs):
            raise PisaError("no")

    live = []

    class Watch(EMA):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            super().on_train_batch_end(trainer, pl_module, *rest)
            live.append(pl_module.denoiser.enter.bias.detach().clone())

    model = toy_model()
    with pytest.raises(PisaError):
        fit(tmp_path, 5, Watch(0.8), Breaks(BrightTracker()), model=model)
    assert torch.equal(model.denoiser.enter.bias, live[-1])


def test_ema_follows_optimiser_steps_not_batches(tmp_path):
    ema = EMA(0.5)
    updates = []
    plain = ema.on_train_batch_end

    def count(trainer, *rest):
        before = {k: v.clone() for k, v in ema._average.items()}
        plain(trainer, *rest)
        updates.append(any(not torch.equal(before[k], ema._average[k]) for k in before))

    ema.on_train_batch_end = count
    fit(tmp_path, 2, ema, loaders=0, accumulate_grad_batches=3)
    assert updates == [False, False, True] * 2


def test_export_holds_the_average(tmp_path):
    ema = EMA(0.9)
    fit(tmp_path, 4, ema, ExportWeights(tmp_path / "run" / "weights.safetensors"), loaders=0)
    model = toy_model(5)
    metadata = load_denoiser(model.denoiser, tmp_path / "run" / "weights.safetensors")
    assert metadata == {"task": "PSFT", "step": "4", "denoiser_passes": "24"}  # 4 steps, 2 clips
    assert torch.equal(model.denoiser.enter.weight, ema._average["enter.weight"])
    assert os.listdir(tmp_path / "run") == ["weights.safetensors"]


def test_wandb_is_offline_without_a_key_and_names_the_sync_command(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    logger = WandbLogger(tmp_path)
    assert logger.is_offline

    class Run:
        dir = str(tmp_path / "wandb" / "offline-run-1" / "files")
        finished = 0

        def finish(self):
            self.finished += 1

    run = logger._experiment = Run()
    logger.finalize("success")
    logger.finalize("success")
    parts = tmp_path / "wandb" / f"offline-run-*-{(tmp_path / RUN_ID).read_text().strip()}"
    expected = f"To upload this run: wandb sync {parts}\n"
    assert capsys.readouterr().out == expected
    assert run.finished == 1  # so that the next stage logs to a run of its own
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert not WandbLogger(tmp_path).is_offline


def test_a_run_of_steps_shows_no_epochs(tmp_path, capsys):
    bar = StepProgressBar(refresh_rate=1, leave=True)
    trainer = make_trainer(tmp_path, 3, bar, logger=False, enable_progress_bar=True)
    trainer.fit(PSFT(toy_model()), ToyData())
    shown = capsys.readouterr().out
    assert "Training" in shown and "Epoch" not in shown
    assert bar.train_progress_bar is not None


def test_a_log_has_lines_with_the_time_to_go(monkeypatch, capsys):
    """One soon, which estimates the whole, and then one every 30 seconds."""
    clock = [0.0]
    monkeypatch.setattr("pisa.io.progress.time.monotonic", lambda: clock[0])
    log = ProgressLog("training", 110, "steps", present=10)
    for step in range(1, 101):
        clock[0] += 1.0
        log.update(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 20/110 steps, 3,600 steps/h, 0 h 02 min to go"
    assert [line.split()[1] for line in lines] == ["20/110", "50/110", "80/110", "110/110"]
