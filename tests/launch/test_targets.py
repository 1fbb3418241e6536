"""A reward that cannot be imported is told before training, in one sentence."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from pisa.launch.targets import check_targets
from pisa.types import PisaError

BROKEN = "class Reward(nn.Module):\n    pass\n"


def check(target):
    check_targets(OmegaConf.create({"reward": {"terms": [{"_target_": target}]}}), "reward")


def test_what_a_module_does_wrong_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_reward.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PisaError) as raised:
        check("broken_reward.Reward")
    told = "reward: cannot import broken_reward.Reward: NameError: name 'nn' is not defined"
    assert str(raised.value) == told


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(PisaError, match=r"cannot import pisa\.rewards\.flow\.Nothing: "):
        check("pisa.rewards.flow.Nothing")


def test_what_is_there_passes_and_interpolations_are_left_alone():
    check("pisa.rewards.flow.FlowReward")
    check("${perception.flow}")
