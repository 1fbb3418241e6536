"""ORO: gradient through every step, a reward that rises, and an end to non-finite runs."""

from __future__ import annotations

import csv
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pisa.errors import PisaError
from pisa.ops.seeding import generator_of
from pisa.rewards.base import Reward
from pisa.rewards.mix import WeightedReward
from pisa.tasks.gradient_steps import (
    EqualSteps,
    FirstSteps,
    FullGradient,
    LastSteps,
    RandomSteps,
    SpreadSteps,
)
from pisa.tasks.oro import ORO
from pisa.tasks.reward_task import ChainStart
from tests.tasks.toy import ToyData, falling_batch, make_trainer, toy_model


class Similarity(nn.Module):
    """Minus the mean squared difference; ``bad_calls`` are the calls that return NaN."""

    name = "similarity"

    def __init__(self, bad_calls=()):
        super().__init__()
        self.teacher = nn.Linear(1, 1)
        self.calls, self.bad_calls = 0, bad_calls

    def forward(self, generated, batch):
        self.calls += 1
        reward = -((generated - batch.video) ** 2).mean(dim=(1, 2, 3, 4))
        return reward * float("nan") if self.calls - 1 in self.bad_calls else reward


def fit(tmp_path, task, steps, ckpt=None, loaders=0, **options):
    trainer = make_trainer(tmp_path, steps, **options)
    trainer.fit(task, ToyData(loaders=loaders), ckpt_path=ckpt, weights_only=ckpt and True)
    return trainer


def validate(tmp_path, task):
    trainer = make_trainer(tmp_path, 1, logger=False)
    return trainer.validate(task, ToyData(loaders=1), verbose=False)[0]["val/reward"]


@pytest.mark.parametrize("psft_weight", [0.0, 0.1])
def test_reward_rises_in_30_steps(tmp_path, psft_weight):
    task = ORO(toy_model(), Similarity(), lr=1e-2, num_steps=4, psft_weight=psft_weight)
    before = validate(tmp_path, task)
    assert validate(tmp_path, task) == before
    fit(tmp_path, task, 30)
    assert validate(tmp_path, task) > 0.6 * before  # both are negative


@pytest.mark.parametrize("checkpoint_steps", [False, True])
def test_gradient_reaches_every_step(checkpoint_steps):
    """Each step's own weights (a hook splits them) get a gradient, and checkpointing keeps it."""
    model, batch = toy_model(), falling_batch(2)
    task = ORO(model, Similarity(), num_steps=4, guidance=2.0, checkpoint_steps=checkpoint_steps)
    gains = {}
    plain = model.velocity

    def velocity(x, level, condition, clean, *, fps_hz):
        key = round(level[0].item(), 6)
        gain = gains.setdefault(key, torch.ones((), requires_grad=True))
        return gain * plain(x, level, condition, clean, fps_hz=fps_hz)

    model.velocity = velocity
    noise = torch.randn(2, 3, 6, 4, 4, generator=generator_of(0))
    generated = task.generate(batch, ChainStart(noise), task.sampler(range(4)))
    task.rewards(generated, batch).sum().backward()
    assert len(gains) == 4
    assert all(gain.grad is not None and gain.grad.abs() > 0 for gain in gains.values())


def test_gradient_windows():
    generator = generator_of(0)
    assert FullGradient()(4, generator) == [0, 1, 2, 3]
    assert LastSteps(2)(4, generator) == [2, 3]
    assert LastSteps(9)(4, generator) == [0, 1, 2, 3]
    assert FirstSteps(2)(4, generator) == [0, 1]
    assert SpreadSteps(4)(10, generator) == [0, 3, 6, 9]
    assert SpreadSteps(1)(10, generator) == [0]
    assert SpreadSteps(9)(3, generator) == [0, 1, 2]
    assert EqualSteps()(3, generator) == [0, 1, 2]
    assert EqualSteps(FirstSteps(2))(4, generator) == [0, 1]
    drawn = [tuple(RandomSteps(2)(4, generator)) for _ in range(50)]
    assert {len(set(steps)) for steps in drawn} == {2}
    assert {step for steps in drawn for step in steps} == {0, 1, 2, 3}
    with pytest.raises(PisaError, match="at least 1"):
        LastSteps(0)


def test_nan_reward_skips_the_step_and_keeps_weights_and_moments(tmp_path):
    task = ORO(toy_model(), Similarity(bad_calls=[3]), lr=1e-2, num_steps=2)
    seen = []

    def remember(optimizer, *_):
        parameter = optimizer.param_groups[0]["params"][0]
        moment = optimizer.state[parameter].get("exp_avg", torch.zeros(()))
        seen.append((parameter.detach().clone(), moment.clone()))

    build = task.configure_optimizers

    def configure():
        config = build()
        config["optimizer"].register_step_post_hook(remember)
        return config

    task.configure_optimizers = configure
    trainer = fit(tmp_path, task, 6)
    assert trainer.global_step == 6
    assert trainer.logged_metrics["train/nonfinite_steps"] == 1
    (log,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(log.open()))
    norms = {int(row["step"]): row["train/gradient_norm"] for row in rows}
    assert [step for step in range(6) if not math.isfinite(float(norms[step]))] == [3]
    for before, after in zip(seen[2], seen[3], strict=True):
        assert torch.equal(before, after)
    assert not torch.equal(seen[3][0], seen[4][0])
    assert all(torch.isfinite(weights).all() for weights, _ in seen)


def test_run_ends_after_max_nonfinite(tmp_path):
    reward = Similarity(bad_calls=range(100))
    task = ORO(toy_model(), reward, lr=1e-2, num_steps=2, max_nonfinite=2)
    with pytest.raises(PisaError, match="3 of 3 steps had a non-finite loss"):
        fit(tmp_path, task, 10)
    assert all(torch.isfinite(p).all() for p in task.parameters())


def test_rewards_without_gradient_or_of_a_wrong_shape_are_refused(tmp_path):
    class Constant(nn.Module):
        name = "constant"

        def forward(self, generated, batch):
            return torch.zeros(len(batch))

    class Scalar(nn.Module):
        name = "scalar"

        def forward(self, generated, batch):
            return generated.mean()

    with pytest.raises(PisaError, match="reward constant passes no gradient"):
        fit(tmp_path, ORO(toy_model(), Constant(), num_steps=2), 1)
    with pytest.raises(PisaError, match=r"reward scalar must return one number per clip, \[2\]"):
        fit(tmp_path, ORO(toy_model(), Scalar(), num_steps=2), 1)


def test_resume_equals_the_uninterrupted_run_and_the_checkpoint_is_lean(tmp_path):
    def run(steps, ckpt=None):
        task = ORO(toy_model(), Similarity(), lr=1e-2, num_steps=3, gradient_window=RandomSteps(2))
        return fit(tmp_path, task, steps, ckpt)

    straight, half = run(6), run(3)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = run(6, tmp_path / "half.ckpt")
    a, b = straight.lightning_module.state_dict(), resumed.lightning_module.state_dict()
    assert {key.split(".")[0] for key in a} == {"denoiser"}
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_logs_norm_and_clipped_fraction(tmp_path):
    trainer = fit(tmp_path, ORO(toy_model(), Similarity(), num_steps=2), 2, gradient_clip_val=1e-6)
    logged = trainer.logged_metrics
    assert logged["train/clipped_fraction"] == 1
    assert logged["train/gradient_norm"] > 1e-6
    assert logged["train/reward"] < 0


class Warped(nn.Module):
    """A teacher that follows motion read from the clip, as flow networks do."""

    name = "warped"

    def __init__(self, bad_calls=()):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls, self.bad_calls = 0, bad_calls

    def forward(self, generated, batch):
        self.calls += 1
        scale = self.scale * (float("nan") if self.calls - 1 in self.bad_calls else 1.0)
        image = generated[:, :, 0]
        moved = grid_sample(image, (scale * generated[:, :2, 1]).movedim(1, -1), "border")
        return -((moved - batch.video[:, :, 1]) ** 2).mean(dim=(1, 2, 3))


def grid_sample(image, grid, padding):
    return F.grid_sample(image, grid, padding_mode=padding, align_corners=False)


@pytest.mark.parametrize("replay", [False, True])
def test_a_nan_inside_a_teacher_skips_the_step(tmp_path, replay):
    """Torch's own backward of such a teacher ends in a segmentation fault."""

    class Nan(Warped):
        def forward(self, generated, batch):  # the forward pass of grid_sample hides the NaN
            bad = self.calls in self.bad_calls
            return super().forward(generated, batch) * (float("nan") if bad else 1.0)

    task = ORO(toy_model(), Nan(bad_calls=[1]), lr=1e-2, num_steps=2, replay=replay)
    trainer = fit(tmp_path, task, 3)
    assert trainer.logged_metrics["train/nonfinite_steps"] == 1
    assert all(torch.isfinite(p).all() for p in task.parameters())
    assert len(list((tmp_path / "nonfinite").iterdir())) == 1


def test_weights_that_are_nan_skip_every_step_and_ask_no_teacher(tmp_path):
    model, reward = toy_model(), Warped()
    model.denoiser.leave.weight.data[0] = float("nan")
    with pytest.raises(PisaError, match="3 of 3 steps had a non-finite"):
        fit(tmp_path, ORO(model, reward, num_steps=2, max_nonfinite=2), 5)
    assert reward.calls == 0


def test_the_parts_of_a_mix_are_logged_without_weight(tmp_path):
    mix = WeightedReward({"a": Similarity(), "b": Similarity()}, {"a": 1.0, "b": 2.0})
    logged = fit(tmp_path, ORO(toy_model(), mix, num_steps=2), 1).logged_metrics
    assert logged["train/reward_a"] == logged["train/reward_b"] < 0
    torch.testing.assert_close(logged["train/reward"], 3 * logged["train/reward_a"])


def test_validation_is_one_mean_over_all_loaders(tmp_path):
    task = ORO(toy_model(), Similarity(), num_steps=2)
    rewards = []
    add = task.validation_means.add
    task.validation_means.add = lambda values, clips: (
        rewards.extend([values["val/reward"]] * clips),
        add(values, clips),
    )
    trainer = make_trainer(tmp_path, 1, logger=False)
    logged = trainer.validate(task, ToyData(loaders=2), verbose=False)[0]
    assert len(rewards) == 6
    assert logged["val/reward"] == pytest.approx(torch.stack(rewards).mean().item())
    assert not [key for key in logged if "dataloader_idx" in key]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_replay_trains_as_the_plain_backward_pass_does(tmp_path, precision):
    def run(**options):
        task = ORO(toy_model(), Similarity(), lr=1e-2, num_steps=3, guidance=2.0, **options)
        fit(tmp_path, task, 3, precision=precision, accumulate_grad_batches=2)
        return task.state_dict()

    start, plain, replayed = toy_model().denoiser.state_dict(), run(), run(replay=True)
    for key, value in plain.items():
        moved = (value - start[key.removeprefix("denoiser.")]).norm()
        difference = (replayed[key] - value).norm()
        assert difference < (1e-3 if precision == "32-true" else 0.1) * moved, key


def test_a_constant_caption_is_encoded_once(tmp_path):
    model = toy_model()
    calls, encode = [], model.encode_captions
    model.encode_captions = lambda captions: calls.append(captions) or encode(captions)
    fit(tmp_path, ORO(model, Similarity(), num_steps=2), 3)
    assert calls == [["a video of an object dropping"]]


def test_equal_steps_train_with_replay_only(tmp_path):
    with pytest.raises(PisaError, match="EqualSteps needs"):
        ORO(toy_model(), Similarity(), gradient_window=EqualSteps())
    task = ORO(
        toy_model(), Similarity(), lr=1e-2, num_steps=4, gradient_window=EqualSteps(), replay=True
    )
    before = validate(tmp_path, task)
    fit(tmp_path, task, 30)
    assert validate(tmp_path, task) > 0.6 * before


def test_copies_are_clips_of_the_same_first_frame_from_noise_of_their_own(tmp_path):
    seen: list[tuple[Tensor, tuple[str, ...]]] = []

    class Watch(Reward):
        name = "watch"

        def forward(self, generated, batch):
            seen.append((generated.detach(), batch.names))
            return -generated.square().mean(dim=(1, 2, 3, 4))

    task = ORO(toy_model(), Watch(), lr=1e-3, num_steps=2, guidance=1.0, copies=3)
    fit(tmp_path, task, 1)
    generated, names = seen[0]
    assert names == tuple(name for name in dict.fromkeys(names) for _ in range(3))
    assert torch.equal(generated[0, :, 0], generated[2, :, 0])
    assert not torch.equal(generated[0, :, 1:], generated[1, :, 1:])
    assert (
        task.passes_per_clip
        == 3 * ORO(toy_model(), Watch(), num_steps=2, guidance=1.0).passes_per_clip
    )
