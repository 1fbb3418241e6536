"""A reward that cannot be imported is reported before training, in one sentence."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from pisa.errors import PisaError
from pisa.launch.targets import PLUGINS, check_target, check_targets, instantiate

BROKEN = "class Reward(nn.Module):\n    pass\n"


def check(target):
    check_targets({"terms": [{"_target_": target}]}, "reward")


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


def test_a_class_of_this_package_passes():
    check("pisa.rewards.flow.FlowReward")


def test_an_escaped_interpolation_cannot_hide_a_target():
    """Resolved once it is a text; building it would resolve it again, to something unchecked."""
    hidden = "\\${oc.create:'{_target_: os.system}'}"
    node = {"_target_": "pisa.rewards.flow.FlowReward", "flow_estimator": hidden}
    with pytest.raises(PisaError, match="escaped interpolation"):
        instantiate(OmegaConf.create(node))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"_target_": "pisa.data.simulated.SimulatedDataModule", "expect_x": 1}, "expect_fps_hz"),
        ({"_target_": "pisa.data.simulated.AmbiguousDataModule", "expect_x": 1}, "expect_fps_hz"),
        ({"_target_": "lightning.pytorch.Trainer", "max_stepz": 1}, "max_steps"),
    ],
)
def test_an_argument_that_is_not_there_is_told_with_the_valid_ones(node, told):
    with pytest.raises(PisaError, match=r"has no argument .*; valid: ") as raised:
        check_targets({"part": node}, "data")
    assert str(raised.value).startswith("data: ") and told in str(raised.value)
    assert "self" not in str(raised.value).split() and "_target_" not in str(raised.value)
    with pytest.raises(PisaError, match="has no argument"):
        instantiate(OmegaConf.create(node | {"_partial_": True}))


def test_a_class_that_takes_anything_is_left_alone():
    """W&B's logger hands its further options on to the library."""
    node = {
        "_target_": "pisa.callbacks.loggers.WandbLogger",
        "entity": "me",
        "_partial_": True,
    }
    check_target(node["_target_"], node)


def test_a_class_without_arguments_takes_none(tmp_path, monkeypatch):
    (tmp_path / "plain_reward.py").write_text("class Reward:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "plain_reward")
    with pytest.raises(PisaError, match="Reward has no argument 'scale'; valid: none"):
        instantiate(OmegaConf.create({"_target_": "plain_reward.Reward", "scale": 2}))
