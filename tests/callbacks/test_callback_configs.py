"""Callbacks that are off by default: their YAMLs join the default ones and build what they name."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest

from pisa.callbacks.hack_watch import HackWatch
from pisa.callbacks.microscope import GradientMicroscope
from pisa.launch.targets import instantiate

CONFIGS = Path(__file__).parents[2] / "configs"


def compose(*overrides: str, experiment: str = "oro_flow"):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", [f"experiment={experiment}", "run_dir=RUN", *overrides])


@pytest.mark.parametrize("judge", ["segmentation", "flow", "depth"])
def test_hack_watch(judge):
    chosen = f"reward@callbacks.hack_watch.judge={judge}"
    callbacks = compose("callbacks=[default,hack_watch]", chosen).callbacks
    assert compose("callbacks=[default,hack_watch]").callbacks.hack_watch.judge.tracker
    watch = instantiate(callbacks.hack_watch)
    assert isinstance(watch, HackWatch) and watch.judge.name == judge
    assert str(watch.folder) == "RUN/hack_watch" and watch.export == Path(callbacks.export.path)


def test_microscope_is_off_unless_asked_for():
    assert "microscope" not in compose().callbacks
    callbacks = compose("callbacks=[default,microscope]").callbacks
    assert isinstance(instantiate(callbacks.microscope), GradientMicroscope)
    assert set(callbacks) == set(compose().callbacks) | {"microscope"}


def test_replay_is_set_from_the_command_line():
    cfg = compose(
        "oro.task.replay=true",
        "oro.task.other_steps=frozen",
        "oro.task.gradient_window._target_=pisa.tasks.gradient_steps.FirstSteps",
        "+oro.task.gradient_window.k=2",
    )
    window = instantiate(cfg.oro.task.gradient_window)
    assert window(4, None) == [0, 1] and cfg.oro.task.replay


def test_a_mix_is_weighted_and_extended_from_the_command_line():
    mix = ["reward=mix", "reward.weights={flow:1,seg:0.25}"]
    mix += ["reward.rewards.flow.region=moving"]
    reward = instantiate(compose(*mix, experiment="oro_seg").oro.reward)
    assert reward.weights == {"flow": 1.0, "seg": 0.25}
    assert reward.rewards["flow"].region == "moving"
    more = ["+reward@reward.rewards.depth=depth", "+reward.weights.depth=0.01"]
    reward = instantiate(compose(*mix, *more, experiment="oro_seg").oro.reward)
    assert reward.name == "flow+seg+depth" and reward.weights["depth"] == 0.01
