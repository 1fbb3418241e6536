"""The gradient microscope in short ORO runs of the toy model."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from pisa.callbacks.microscope import GradientMicroscope
from pisa.rewards.mix import WeightedReward
from pisa.tasks.gradient_steps import LastSteps, norm
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from tests.tasks.toy import ToyData, falling_batch, make_trainer, toy_model


class Similarity(nn.Module):
    name = "similarity"

    def forward(self, generated, batch):
        return -((generated - batch.video) ** 2).mean(dim=(1, 2, 3, 4))


def fit(tmp_path, *callbacks, steps=1, task=None, **options):
    task = task or ORO(toy_model(), Similarity(), lr=1e-2, num_steps=3, guidance=2.0)
    trainer = make_trainer(tmp_path, steps, *callbacks, **options)
    trainer.fit(task, ToyData())
    logged: dict[str, list[float]] = {}
    trainer.logger.save()
    with Path(trainer.logger.log_dir, "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value:
                    logged.setdefault(key.removeprefix("microscope/"), []).append(float(value))
    return task, logged


def test_steps_add_up_to_the_gradient_that_training_uses(tmp_path):
    _, logged = fit(tmp_path, GradientMicroscope(1), steps=2)
    shares = [logged[f"step_{k:02d}_share"] for k in range(3)]
    assert [sum(each) for each in zip(*shares, strict=True)] == pytest.approx([1, 1], abs=1e-5)
    assert all(value > 0 for k in range(3) for value in logged[f"step_{k:02d}_norm"])
    assert logged["used_cosine"] == pytest.approx([1, 1], abs=1e-5)
    assert logged["used_norm_ratio"] == pytest.approx([1, 1], abs=1e-4)
    assert logged["reward_similarity"] == pytest.approx(logged["train/reward"], rel=1e-5)
    assert logged["full_norm"] == pytest.approx(logged["train/gradient_norm"], rel=1e-4)


def test_terms_are_the_derivative_by_each_step_s_own_weights(tmp_path):
    task = ORO(toy_model(), Similarity(), num_steps=3, guidance=1.0, checkpoint_steps=False)
    make_trainer(tmp_path, 1).fit(task, ToyData())
    batch = falling_batch(2)
    found = task.step_gradients(batch, 0)
    model, copies = task.model, [toy_model() for _ in range(3)]
    for copy in copies:
        copy.denoiser.load_state_dict(model.denoiser.state_dict())
    calls = iter(copies)
    model.velocity = lambda *args, **options: next(calls).velocity(*args, **options)
    _, start, *_ = task.start(batch, 0)
    generated = task.generate(batch, start, task.sampler(range(3)))
    (-task.rewards(generated, batch).mean()).backward()
    norms = [norm([p.grad for p in copy.denoiser.parameters()]) for copy in copies]
    assert found.norms == pytest.approx(norms, rel=1e-4)


def test_a_window_shows_in_the_used_gradient(tmp_path):
    task = ORO(toy_model(), Similarity(), num_steps=3, gradient_window=LastSteps(1))
    _, logged = fit(tmp_path, GradientMicroscope(1), task=task)
    row = {key: values[0] for key, values in logged.items()}
    assert row["used_cosine"] < 0.99999
    # the last step has no later step to pass: its term is what training uses
    assert row["used_cosine"] == pytest.approx(row["step_02_cosine"], abs=1e-4)
    assert row["used_norm_ratio"] * row["full_norm"] == pytest.approx(row["step_02_norm"], rel=1e-3)


def test_training_is_the_same_with_and_without(tmp_path):
    plain, _ = fit(tmp_path / "a", steps=3)
    watched, logged = fit(tmp_path / "b", GradientMicroscope(2), steps=3)
    assert len(logged["full_norm"]) == 2
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_terms_of_a_mix_and_the_clipped_fraction(tmp_path):
    mix = WeightedReward({"a": Similarity(), "b": Similarity()}, {"a": 1.0, "b": 2.0})
    task = ORO(toy_model(), mix, num_steps=2)
    _, logged = fit(tmp_path, GradientMicroscope(1), task=task, steps=2, gradient_clip_val=1e-6)
    assert logged["reward_a"] == logged["reward_b"]
    assert max(logged["reward_a"]) < 0
    assert logged["clipped_fraction"] == [0, 1]


def test_it_sees_the_first_micro_batch_and_only_oro(tmp_path):
    _, logged = fit(tmp_path / "a", GradientMicroscope(1), steps=2, accumulate_grad_batches=2)
    assert len(logged["full_norm"]) == 2
    assert logged["used_norm_ratio"] == pytest.approx([1, 1], rel=1e-4)
    _, logged = fit(tmp_path / "b", GradientMicroscope(1), task=PSFT(toy_model()))
    assert "full_norm" not in logged
