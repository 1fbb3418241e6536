"""Every method spends the same forward passes of the denoiser at any scale and budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pisa.errors import PisaError
from pisa.launch.budget import passes_per_clip
from pisa.launch.compose import compose_train
from pisa.launch.train import build_task
from tests.launch.conftest import CONFIGS, compose

METHODS = [
    path.stem
    for path in sorted((CONFIGS / "experiment").glob("*.yaml"))
    if "stages: [psft, oro]" in path.read_text()
]


def spent(*overrides: str) -> float:
    """Passes of stage 2, counted by the task as it is built for training, with a small model."""
    run = compose_train(compose("perception=embedded", *overrides, name="train"))
    stage = run.stages[-1]
    model = compose_train(compose("experiment=psft", name="train")).stages[0].model
    task = build_task(replace(stage, model=model), None)
    return task.passes_per_clip * stage.settings.batch_size * stage.settings.max_steps


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("options", "budget"),
    [
        (("scale=tiny",), 11_520),
        (("scale=tiny_long",), 28_800),
        (("scale=paper",), 80_000),
        (("scale=tiny", "budget=50000", "oro.batch_size=4"), 50_000),
    ],
)
def test_every_method_spends_the_budget(method, options, budget):
    assert spent(f"experiment={method}", *options) == pytest.approx(budget, rel=0.02)


@pytest.mark.parametrize(("scale", "steps"), [("tiny", 120), ("tiny_long", 300), ("paper", 500)])
def test_the_budget_is_that_of_a_number_of_steps_of_oro(scale, steps):
    run = compose_train(compose("experiment=oro_flow", f"scale={scale}", name="train"))
    assert run.stages[-1].settings.max_steps == steps


@pytest.mark.parametrize(
    "change", ["oro.task.group_size=8", "oro.task.num_steps=8", "oro.task.guidance=2.0"]
)
def test_settings_that_cost_passes_cost_steps(change):
    plain, dear = (
        compose_train(compose("experiment=rejection", *more, name="train")).stages[-1]
        for more in ((), (change,))
    )
    assert dear.settings.max_steps < 0.6 * plain.settings.max_steps
    assert dear.task.settings["decay_steps"] == dear.settings.max_steps
    assert spent("experiment=rejection", change) == pytest.approx(11_520, rel=0.02)


def test_a_given_number_of_steps_is_kept():
    run = compose_train(compose("experiment=nft", "oro.max_steps=7", name="train"))
    assert run.stages[-1].settings.max_steps == 7


def test_more_psft_goes_on_with_the_loss_of_stage_1_on_oros_clips():
    first, second = compose_train(compose("experiment=more_psft", name="train")).stages
    assert second.task.target is first.task.target and second.settings.train == "oro"
    assert second.reward is None and second.row == "more_psft"
    for key in ("caption_dropout", "object_weight", "motion_weight", "muon", "object_region"):
        assert second.task.settings[key] == first.task.settings[key]


def test_a_method_that_does_not_count_its_passes_is_one_sentence(monkeypatch):
    monkeypatch.setattr("pisa.tasks.rejection.RejectionSampling.passes_per_clip", None)
    stage = compose_train(compose("experiment=rejection", "oro.max_steps=2", name="train")).stages[
        1
    ]
    with pytest.raises(PisaError, match=r"RejectionSampling has no passes_per_clip.*oro.max_steps"):
        passes_per_clip(stage.task, rewarded=True)
