"""Adding a reward takes one Python file and one YAML; the main job then runs with it."""

import json
from pathlib import Path

import pytest

from tests.processes import run_script

REWARD = """
import torch
from torch import nn


class BrightnessReward(nn.Module):
    name = "brightness"

    def forward(self, generated, batch):
        return generated.mean(dim=(1, 2, 3, 4))
"""

REWARD_YAML = "_target_: brightness_reward.BrightnessReward\n"

EXPERIMENT_YAML = """# @package _global_
defaults:
  - override /reward: brightness
name: oro_brightness
stages: [psft, oro]
"""


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    (tmp_path / "brightness_reward.py").write_text(REWARD)
    for group, name, text in (
        ("reward", "brightness", REWARD_YAML),
        ("experiment", "oro_brightness", EXPERIMENT_YAML),
    ):
        folder = tmp_path / "configs" / group
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text(text)
    return tmp_path


def test_the_main_job_runs_with_a_new_reward(extension):
    done = run_script(
        "train.py",
        f"hydra.searchpath=[file://{extension / 'configs'}]",
        "experiment=oro_brightness",
        "debug=smoke",
        "logger=csv",
        "simulation.num_workers=1",
        cwd=extension,
        PYTHONPATH=str(extension),
        PISA_PLUGINS="brightness_reward",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (extension / "runs").glob("oro_brightness-*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert set(metrics["summary"]) == {"truth", "frozen", "base", "psft", "oro_brightness"}
    assert metrics["summary"]["psft"]["sim_seen"]["l2"]["n"] == 3
    assert (folder / "report.html").is_file()
