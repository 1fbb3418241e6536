"""What a step with a non-finite reward or gradient leaves on disk."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pisa.diffusion.samplers import Euler
from pisa.errors import PisaError
from pisa.ops.seeding import generator_of
from pisa.tasks.oro import ORO
from pisa.tasks.reward_task import ChainStart
from pisa.types import collate
from tests.tasks.toy import ToyData, make_trainer, toy_model


class Breaks(nn.Module):
    """At its ``bad_call``, the reward of clip 1 (or only its gradient) is not finite."""

    name = "breaks"

    def __init__(self, bad_call, gradient_only=False):
        super().__init__()
        self.calls, self.bad_call, self.gradient_only = 0, bad_call, gradient_only

    def forward(self, generated, batch):
        reward = generated.mean(dim=(1, 2, 3, 4))
        self.calls += 1
        if self.calls - 1 < self.bad_call:
            return reward
        if self.gradient_only:
            return reward + (generated * 0).abs().sqrt().mean(dim=(1, 2, 3, 4))  # 0 * inf
        return reward * torch.tensor([1.0, float("inf")])


def fit(tmp_path, reward, steps=3, **options):
    task = ORO(toy_model(), reward, num_steps=2, guidance=1.0, seed=4, max_nonfinite=1)
    trainer = make_trainer(tmp_path, steps, **options)
    trainer.fit(task, ToyData())
    return task


def test_the_clip_its_reward_and_its_seed_are_kept(tmp_path):
    fit(tmp_path, Breaks(bad_call=2))
    (place,) = (tmp_path / "nonfinite").iterdir()
    assert place.name == "step_000002_rank_0_part_0"
    assert sorted(p.name for p in place.iterdir()) == ["clips.json", "clips.safetensors"]
    text = json.loads((place / "clips.json").read_text())
    assert [type(clip["reward"]) for clip in text["clips"]] == [float, str]
    assert text["clips"][1]["reward"] in ("inf", "-inf")
    assert (text["reward"], text["seed"], text["step"], text["grad_steps"]) == (
        "breaks",
        4,
        2,
        [0, 1],
    )
    kept = load_file(place / "clips.safetensors")
    clips = {clip.name: clip.video for clip in ToyData().clips}
    names = [clip["name"] for clip in text["clips"]]
    truth = torch.stack([clips[name][:, 0] for name in names])
    assert torch.equal(kept["first_frame"], truth)
    assert kept["video"].shape == (2, 3, 6, 16, 16)
    assert kept["reward"][0].item() == pytest.approx(kept["video"][0].mean().item(), rel=1e-5)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_step_can_be_generated_again_from_the_record(tmp_path, micro_batches):
    reward = Breaks(bad_call=0)
    task = fit(tmp_path, reward, steps=1, accumulate_grad_batches=micro_batches)
    place = sorted((tmp_path / "nonfinite").iterdir())[-1]
    kept, text = (
        load_file(place / "clips.safetensors"),
        json.loads((place / "clips.json").read_text()),
    )
    generator = generator_of(text["seed"], "train", text["step"], 0, 0)
    noise = torch.randn(text["global_batch"], 3, 6, 4, 4, generator=generator)
    noise = noise[text["first_row"] :][: len(text["clips"])]
    clips = {clip.name: clip for clip in ToyData().clips}
    batch = collate([clips[clip["name"]] for clip in text["clips"]])
    with torch.no_grad():  # the step was skipped, so the weights are still those
        again = task.generate(batch, ChainStart(noise), Euler())
    torch.testing.assert_close(again, kept["video"])


def test_a_gradient_that_is_not_finite_and_all_micro_batches(tmp_path):
    fit(tmp_path, Breaks(bad_call=3, gradient_only=True), steps=2, accumulate_grad_batches=2)
    names = sorted(p.name for p in (tmp_path / "nonfinite").iterdir())
    assert names == ["step_000001_rank_0_part_0", "step_000001_rank_0_part_1"]


def test_the_error_that_ends_the_run_says_where(tmp_path):
    with pytest.raises(PisaError, match=f"What was generated is in {tmp_path / 'nonfinite'}"):
        fit(tmp_path, Breaks(bad_call=0))
    assert len(list((tmp_path / "nonfinite").iterdir())) == 2


def test_a_finite_run_leaves_nothing(tmp_path):
    fit(tmp_path, Breaks(bad_call=99))
    assert not (tmp_path / "nonfinite").exists()
