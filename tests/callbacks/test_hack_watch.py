"""The hack watch against a reward that can be hacked: it pays for brightness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pisa.callbacks.checkpoints import ExportWeights
from pisa.callbacks.ema import EMA
from pisa.callbacks.hack_watch import HackDetector, HackWatch, Verdict
from pisa.errors import PisaError
from pisa.rewards.mix import WeightedReward
from pisa.tasks.nft import DiffusionNFT
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from pisa.tasks.weights import load_denoiser
from tests.tasks.toy import ToyData, make_trainer, toy_model


class Brightness(nn.Module):
    """Any bright clip scores well, whatever it shows."""

    name = "brightness"

    def forward(self, generated, batch):
        return generated.mean(dim=(1, 2, 3, 4))


class Likeness(nn.Module):
    name = "likeness"

    def forward(self, generated, batch):
        return -(generated - batch.video).abs().mean(dim=(1, 2, 3, 4))


def fit(tmp_path, watch, *callbacks, method=ORO, reward=None, steps=40, **options):
    task = method(toy_model(), reward or Brightness(), lr=5e-3, num_steps=2, guidance=1.0)
    defaults = {"enable_checkpointing": True, "num_sanity_val_steps": -1, "val_check_interval": 2}
    trainer = make_trainer(tmp_path, steps, watch, *callbacks, **(defaults | options))
    trainer.fit(task, ToyData(loaders=1))
    return trainer


def test_a_hacked_reward_ends_the_run_and_the_best_weights_are_kept(tmp_path, capsys):
    watch = HackWatch(Likeness(), tmp_path / "watch", patience=3, export=tmp_path / "w.safetensors")
    trainer = fit(tmp_path, watch, ExportWeights(tmp_path / "w.safetensors"))
    detector = watch.detector
    best, last = detector.best, detector.verdicts[-1]
    assert trainer.global_step == last.step < 40
    assert len([v for v in detector.verdicts if v.step > best.step]) == 3
    assert last.reward > best.reward and last.judge < best.judge
    printed = capsys.readouterr().out
    assert f"from step {best.step} to {last.step} the reward rose" in printed
    assert str(tmp_path / "watch" / "best.safetensors") in printed
    record = json.loads((tmp_path / "watch" / "record.json").read_text())
    assert record["reason"] == detector.reason and record["judge"] == "likeness"
    assert [v["step"] for v in record["verdicts"]] == [v.step for v in detector.verdicts]
    kept, exported = toy_model(1), toy_model(2)
    metadata = load_denoiser(kept.denoiser, tmp_path / "watch" / "best.safetensors")
    load_denoiser(exported.denoiser, tmp_path / "w.safetensors")
    assert metadata["step"] == str(best.step)
    live = trainer.lightning_module.denoiser.enter.weight
    assert torch.equal(kept.denoiser.enter.weight, exported.denoiser.enter.weight)
    assert not torch.equal(kept.denoiser.enter.weight, live)


def test_methods_without_a_gradient_of_the_reward_are_watched_too(tmp_path):
    watch = HackWatch(Likeness(), tmp_path / "watch")
    fit(tmp_path, watch, method=DiffusionNFT, steps=2)
    assert [verdict.step for verdict in watch.detector.verdicts] == [0, 2]


def test_an_honest_reward_runs_to_the_end(tmp_path):
    class Honest(Likeness):
        name = "honest"

    watch = HackWatch(Likeness(), tmp_path / "watch", patience=2, export=tmp_path / "w.safetensors")
    trainer = fit(
        tmp_path, watch, ExportWeights(tmp_path / "w.safetensors"), reward=Honest(), steps=10
    )
    assert trainer.global_step == 10 and watch.detector.reason is None
    exported = toy_model(2)
    load_denoiser(exported.denoiser, tmp_path / "w.safetensors")
    assert torch.equal(
        exported.denoiser.enter.weight, trainer.lightning_module.denoiser.enter.weight
    )


def test_the_verdict_is_the_mean_over_the_validation_clips_with_the_average_weights(tmp_path):
    watch, ema = HackWatch(Likeness(), tmp_path / "watch", patience=99), EMA(0.5)
    trainer = fit(tmp_path, watch, ema, steps=2)
    verdict = watch.detector.verdicts[-1]
    assert verdict.clips == 3
    assert verdict.reward == pytest.approx(trainer.callback_metrics["val/reward"].item(), rel=1e-5)
    kept = toy_model(1)
    if watch.detector.best == verdict:
        load_denoiser(kept.denoiser, tmp_path / "watch" / "best.safetensors")
        assert torch.equal(kept.denoiser.enter.weight, ema._average["enter.weight"])
    start = watch.detector.verdicts[0]
    assert start.step == 0 and start.clips == 3


def detected(detector, *pairs):
    for step, (reward, judge) in enumerate(pairs):
        detector.add(Verdict(step, reward, judge, 1))
    return detector


def test_detector():
    assert detected(HackDetector(2), (0, 5), (1, 4), (2, 3)).reason is not None
    assert detected(HackDetector(2), (0, 5), (1, 4), (-1, 3), (2, 3)).reason is None  # both fell
    assert detected(HackDetector(2), (0, 5), (1, 6), (2, 7), (3, 8)).reason is None
    assert detected(HackDetector(2, min_drop=1.5), (0, 5), (1, 4), (2, 4)).reason is None
    nan = float("nan")
    lost = detected(HackDetector(2), (0, nan), (1, 5), (2, nan), (3, nan))
    assert lost.best.step == 1 and lost.reason is not None  # the judge finds nothing any more
    again = HackDetector(2)
    again.load_state_dict(detected(HackDetector(2), (0, 5), (1, 4)).state_dict())
    assert again.add(Verdict(2, 2, 3, 1)) is False and again.reason is not None
    with pytest.raises(ValueError, match="patience"):
        HackDetector(0)


def test_a_judge_that_is_part_of_the_reward_is_refused(tmp_path):
    mix = WeightedReward({"x": Likeness(), "y": Brightness()}, {"x": 1.0, "y": 1.0})
    with pytest.raises(PisaError, match="'likeness' is part of the reward"):
        fit(tmp_path, HackWatch(Likeness(), tmp_path / "watch"), reward=mix, steps=1)


def test_other_tasks_and_short_sanity_checks_are_not_judged(tmp_path):
    watch = HackWatch(Likeness(), tmp_path / "watch")
    fit(tmp_path, watch, steps=1, num_sanity_val_steps=1)
    assert watch.detector.verdicts == []
    trainer = make_trainer(tmp_path, 2, watch, enable_checkpointing=True, val_check_interval=2)
    trainer.fit(PSFT(toy_model()), ToyData(loaders=1))
    assert watch.detector.verdicts == [] and not Path(tmp_path, "watch").exists()
